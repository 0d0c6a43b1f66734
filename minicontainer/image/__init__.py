"""Images: names, the content store, layers, registries and archives."""
