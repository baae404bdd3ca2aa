"""Where an address is: a geocoding service, and a gazetteer for when it does not answer."""
