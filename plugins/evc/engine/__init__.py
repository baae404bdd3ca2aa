"""The Docker Engine of a node, through its SSH session: nothing but sshd and the engine is needed there."""
