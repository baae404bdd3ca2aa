"""Who is who across nodes: sightings of many cameras, linked to identities by looks, time and place. Pure: no I/O."""
