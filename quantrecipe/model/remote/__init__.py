"""Files that lie elsewhere, read while they are downloaded: what the hub and object stores have in common.

A folder of this machine stands for the model. Small files lie in it, and those with weights are empty there. Their
headers come by requests for ranges, and their tensors in blocks that are kept as long as there is room (`blocks.py`,
`block_file.py`). A `RemotePlace` (`place.py`) says where a file is, and fetches from there: in this process, or in a
worker's, which gets the place alone and reads for itself.
"""

from quantrecipe.model.remote.block_file import BlockFile, open_places, read_heads
from quantrecipe.model.remote.blocks import Blocks
from quantrecipe.model.remote.place import RemotePlace

__all__ = ["BlockFile", "Blocks", "RemotePlace", "open_places", "read_heads"]
