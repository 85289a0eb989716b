"""The addresses of the API, a blueprint a noun: a view parses, calls one function, renders."""
