"""The catalogue of public data sets: what they are, what their traps are, and how a download becomes a study."""

from mailnet.data.catalog.entry import Entry
from mailnet.data.catalog.prepare import Prepared, prepare_dataset
from mailnet.data.catalog.registry import get_dataset, list_datasets

__all__ = ["Entry", "Prepared", "get_dataset", "list_datasets", "prepare_dataset"]
