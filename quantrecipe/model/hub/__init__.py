"""Models on the Hugging Face hub, read while they are downloaded.

    hf://OWNER/NAME[@REVISION][/PATH]     the repository, or a folder or file in it

A folder of this machine stands for the repository (`mirror.py`): small files lie in it, and those with weights are
empty there. Their headers come by requests for ranges, and their tensors in blocks that are kept as long as there is
room (`blocks.py`). The commit is in the folder's name, so that what was downloaded once stays right.
Source: https://huggingface.co/docs/hub/api, and huggingface_hub, which speaks with the hub.
"""

from quantrecipe.model.hub.address import HubAddress
from quantrecipe.model.hub.mirror import mirrored

__all__ = ["HubAddress", "mirrored"]
