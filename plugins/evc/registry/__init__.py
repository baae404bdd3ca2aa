"""The private registry: its folder (authority, certificates, accounts, configuration) and a client of its API."""
