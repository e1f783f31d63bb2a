"""Service management over the model: what people do with the observatory."""
