"""Sessions to nodes: pinned host keys, jump nodes, time-outs and bounded answers."""
