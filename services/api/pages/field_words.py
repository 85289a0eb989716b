"""What the fields of forms are called by people: by their labels and in the sentences that refuse them. Pure.

The API names fields by their paths, `clustering.n_clusters`, for programs; a person never saw these.
"""

from __future__ import annotations

#: Names of fields, of requests and of parameters, that say too little when they are only spelled out.
_LABELS = {
    "videos": "Video URLs",
    "files": "Video files",
    "models": "Models",
    "model": "Model",
    "name": "Name",
    "role": "Role",
    "key": "Key",
    "url": "URL",
    "job": "Among",
    "jobs": "Among",
    "picture": "Picture",
    "format": "Format",
    "limit": "How many",
    "cursor": "Part of the list",
    "algorithm": "Algorithm",
    "scaling": "Scaling",
    "seed": "Seed",
    "pca_dimensions": "Principal components",
    "n_clusters": "Clusters (k)",
    "n_init": "Starts",
    "max_iterations": "Most iterations",
    "batch_size": "Vectors a batch",
    "min_cluster_size": "Least size of a cluster",
    "min_samples": "Neighbours that make a dense place",
    "cluster_selection_method": "Clusters taken",
    "allow_single_cluster": "One cluster is allowed",
}


def label(name: str) -> str:
    """What a form calls the field of that name."""
    return _LABELS.get(name) or name.replace("_", " ").capitalize()


def sentence(field: str, message: str) -> str:
    """What is wrong, with the field as people know it.

    field: a path such as `clustering.n_clusters` or `models.0`, or already what a person typed: a URL, a file's name.
    """
    parts = [part for part in field.split(".") if not part.isdigit()]
    name = parts[-1] if parts else ""
    if name not in _LABELS:
        return message if not field or field in message else f"{field}: {message}"
    known = _LABELS[name]
    if message.startswith(f"{name} "):
        return known + message.removeprefix(name)
    return f"{known}: {message}"
