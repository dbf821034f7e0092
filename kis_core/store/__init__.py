"""Values on disk: content-addressed, checksummed, checked against what a value of their kind must be."""

from kis_core.store.store import DEFAULT_ROOT, Entry, Item, Store, StoreError, default_root, key_of
