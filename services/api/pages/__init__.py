"""The pages that people look at: HTML over the same reads and writes as the API, whole without a script."""
