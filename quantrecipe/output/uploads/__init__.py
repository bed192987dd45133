"""Results that go to an object store: written here first (`staging.py`), then sent as they lie (`upload.py`)."""
