"""Just enough of JSON Schema to check bodies against what ``/openapi.json`` documents, and stricter."""

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
ANNOTATIONS = {"title", "description", "default", "examples", "format", "contentMediaType"}
CHECKED = {
    *("$ref", "anyOf", "type", "enum", "const", "properties", "required", "additionalProperties", "items"),
    *("oneOf", "minLength", "prefixItems", "minItems", "maxItems", "minimum", "maximum", "exclusiveMinimum"),
}


def violations(value, schema, document, where="body"):
    """What is wrong with ``value``. A member that no ``properties`` name is wrong unless extra ones are allowed.

    A keyword that isn't known here is an error, so that nothing passes for want of a check.
    """
    assert schema.keys() <= ANNOTATIONS | CHECKED, schema.keys() - ANNOTATIONS - CHECKED
    if "$ref" in schema:
        return violations(value, resolve(schema["$ref"], document), document, where)
    if "anyOf" in schema:
        found = [violations(value, option, document, where) for option in schema["anyOf"]]
        return [] if [] in found else found[0]
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{where}: {value!r:.60} is no {kind}"]
    wrong = []
    if "enum" in schema and value not in schema["enum"]:
        wrong.append(f"{where}: {value!r} is none of {schema['enum']}")
    if "const" in schema and value != schema["const"]:
        wrong.append(f"{where}: {value!r} is not {schema['const']!r}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        wrong += [f"{where}: {value} is too small" for _ in (0,) if value < schema.get("minimum", value)]
        wrong += [f"{where}: {value} is too large" for _ in (0,) if value > schema.get("maximum", value)]
        wrong += [f"{where}: {value} is too small" for _ in (0,) if value <= schema.get("exclusiveMinimum", value - 1)]
    if "oneOf" in schema and [violations(value, option, document, where) for option in schema["oneOf"]].count([]) != 1:
        wrong.append(f"{where}: is not exactly one of {schema['oneOf']}")
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        wrong.append(f"{where}: is too short")
    if isinstance(value, list):
        wrong += _of_list(value, schema, document, where)
    if isinstance(value, dict):
        wrong += _of_object(value, schema, document, where)
    return wrong


def resolve(reference, document):
    """What a ``$ref`` within the document refers to."""
    found = document
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def _of_list(value, schema, document, where):
    wrong = []
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        wrong.append(f"{where}: has {len(value)} items")
    first = schema.get("prefixItems", [])
    for i, item in enumerate(value):
        kind = first[i] if i < len(first) else schema.get("items", {})
        wrong += violations(item, kind, document, f"{where}[{i}]")
    return wrong


def _of_object(value, schema, document, where):
    known = schema.get("properties", {})
    extra = schema.get("additionalProperties", not known)
    wrong = [f"{where}: {name!r} is missing" for name in schema.get("required", ()) if name not in value]
    for name, member in value.items():
        if name in known:
            wrong += violations(member, known[name], document, f"{where}.{name}")
        elif extra is False:
            wrong.append(f"{where}: {name!r} is not documented")
        elif isinstance(extra, dict):
            wrong += violations(member, extra, document, f"{where}.{name}")
    return wrong
