"""What lies in the store, for people: an inventory, and bundles to take along."""
