"""Pictures and pages that show what was learned."""

from nearfar.report.html import Section as Section
from nearfar.report.html import write_report as write_report
