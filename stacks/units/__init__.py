"""One module per unit of provisioning (`dpp.model.units`); each has one function, `provision`."""
