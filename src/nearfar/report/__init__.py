"""Reports of results as HTML pages, tables and figures."""

from nearfar.report.attacks import write_assessment
from nearfar.report.browse import ImageMap, map_images, write_map_table
from nearfar.report.curation import write_curation_page
from nearfar.report.html import Section, Strip, write_report
from nearfar.report.map import write_map
from nearfar.report.model_card import MODEL_CARD, write_model_card
from nearfar.report.restoration import write_restored
from nearfar.report.run import report_encoder, report_run
from nearfar.report.scores import write_scores_page
from nearfar.report.tables import evaluation_markdown, markdown_table
from nearfar.report.transfer import transfer_table, write_transfer

__all__ = [
    "MODEL_CARD",
    "ImageMap",
    "Section",
    "Strip",
    "evaluation_markdown",
    "map_images",
    "markdown_table",
    "report_encoder",
    "report_run",
    "transfer_table",
    "write_assessment",
    "write_curation_page",
    "write_map",
    "write_map_table",
    "write_model_card",
    "write_report",
    "write_restored",
    "write_scores_page",
    "write_transfer",
]
