"""Models in object stores, and in whatever else fsspec reads: s3://, gs://, az://, memory://, the URL of one file.

    s3://BUCKET/FOLDER/                   all files of a model
    s3://BUCKET/FOLDER/FILE.gguf          one file, and those beside it that belong to it
    https://HOST/FILE.gguf                one file

As of models on the hub, a folder of this machine stands for the model (`mirror.py`). What an object is, is what its
store says of it: size, ETag, time of change (`object_place.py`). It may be replaced while it is read, which a commit on
the hub can't be, so it is asked again.
Source: https://filesystem-spec.readthedocs.io, which finds credentials, too.
"""

from quantrecipe.model.objects.address import ObjectAddress
from quantrecipe.model.objects.mirror import mirrored
from quantrecipe.model.objects.refusals import lacks_folder, lacks_rights, refusals, shown, worth_another_try

__all__ = [
    "ObjectAddress",
    "lacks_folder",
    "lacks_rights",
    "mirrored",
    "refusals",
    "shown",
    "worth_another_try",
]
