"""Camera and OCS of the lab: announces visits, exposes a sky whose truth it keeps, and offers the pixels to the archiver."""
