"""Names of files and folders in the output of a transfer task; imports no torch."""

#: Configuration and weights of a fine-tuned network.
CONFIG, WEIGHTS = "finetuned.json", "finetuned.safetensors"
#: Subfolder for the proposals of `nearfar.transfer.transfer_detection`.
PROPOSALS_FOLDER = "proposals"
