"""Atomic writes, output paths, locks, file names and disk space."""

from nearfar.files.atomic import (
    LEFTOVER,
    atomic_path,
    remove_abandoned,
    remove_leftovers,
    sync,
    write_json,
)
from nearfar.files.disk_space import check_room, free_space, readable_size, reserve
from nearfar.files.names import exists, find_path, fitting_name, natural_key, normal_form
from nearfar.files.outputs import (
    ADVICE,
    UNFINISHED,
    check_files,
    check_output,
    claim_output,
    clear_folder,
    hold_lock,
    is_unfinished_output,
    remove_empty_on_failure,
    remove_on_failure,
    try_output,
    unfinished_output,
)

__all__ = [
    "ADVICE",
    "LEFTOVER",
    "UNFINISHED",
    "atomic_path",
    "check_files",
    "check_output",
    "check_room",
    "claim_output",
    "clear_folder",
    "exists",
    "find_path",
    "fitting_name",
    "free_space",
    "hold_lock",
    "is_unfinished_output",
    "natural_key",
    "normal_form",
    "readable_size",
    "remove_abandoned",
    "remove_empty_on_failure",
    "remove_leftovers",
    "remove_on_failure",
    "reserve",
    "sync",
    "try_output",
    "unfinished_output",
    "write_json",
]
