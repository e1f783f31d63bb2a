"""Camera archiver, an OCS-commandable device: joins pixels and metadata into raw files and stores them, losing none."""
