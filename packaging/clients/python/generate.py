"""Makes the files of the package that follow from the OpenAPI document.

`generate.py DIRECTORY` writes them into this directory, without it into the package.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parents[2] / "docs" / "openapi.json"
PROJECT = HERE / "pyproject.toml"
GENERATED = '"""Made by generate.py from docs/openapi.json."""\n\n'
SIMPLE = {"string": "str", "integer": "int", "boolean": "bool", "number": "float"}
JSON = "application/json"
STREAM = "text/event-stream"
OPTIONS = """
    --input-file-type openapi --output-model-type typing.TypedDict --target-python-version 3.10
    --use-standard-collections --use-union-operator --enum-field-as-literal all
    --use-schema-description --use-field-description --disable-timestamp --disable-warnings
    --formatters builtin
""".split()


def main() -> None:
    to = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "src" / "triggerd"
    document = json.loads(DOCUMENT.read_text())
    for schema in document["components"]["schemas"].values():
        # Of rules about members together, only those about required members become types.
        if "properties" in schema:
            if schema is document["components"]["schemas"]["PostedEvent"]:
                simplify_type(schema)
            schema.pop("anyOf", None)
            schema.pop("oneOf", None)
            for rule in schema.pop("allOf", []):
                schema["required"] = schema.get("required", []) + rule.get("required", [])
    write_types(document, to / "types.py")
    (to / "problems.py").write_text(problems(document))
    (to / "operations.py").write_text(operations(document))
    files: list[str | Path] = [to / "types.py", to / "problems.py", to / "operations.py"]
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--quiet",
        "--config",
        PROJECT,
    ]
    subprocess.run([*command, *files], check=True)


def simplify_type(schema: dict[str, Any]) -> None:
    """Requires `type` of a posted event, without its other name `event_type`."""
    del schema["properties"]["event_type"]
    schema["properties"]["type"] = schema["properties"]["type"]["anyOf"][0]
    schema["required"].append("type")


def write_types(document: dict[str, Any], to: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "openapi.json"
        source.write_text(json.dumps(document))
        files: list[str | Path] = ["--input", source, "--output", to]
        command = [sys.executable, "-m", "datamodel_code_generator", *files, *OPTIONS]
        subprocess.run(command, check=True)
    own = re.sub(r"\A(#.*\n)+\n*", GENERATED, to.read_text())
    pushed = [
        reference(item["post"]["requestBody"]["content"][JSON]["schema"])
        for name, item in document["webhooks"].items()
        if name.startswith("triggerd.")
    ]
    own += "".join(stream_types(document))
    own += f"\n\nOperationalEvent: TypeAlias = {' | '.join(pushed)}\n"
    to.write_text(own + '"""\nAn event of triggerd itself, as an endpoint receives it.\n"""\n')


def streams(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the schemas of the items of each stream, by the name of its type."""
    found = {}
    for item in (item for methods in document["paths"].values() for item in methods.values()):
        if schema := item["responses"].get("200", {}).get("content", {}).get(STREAM):
            name = item["operationId"][0].upper() + item["operationId"][1:] + "Item"
            found[name] = schema["schema"]["x-stream-items"]
    return found


def stream_types(document: dict[str, Any]) -> Iterator[str]:
    for name, items in streams(document).items():
        for event, schema in items.items():
            yield f"\n\nclass {name}{event.capitalize()}(TypedDict):\n"
            yield f'    event: Literal["{event}"]\n    data: {reference(schema)}\n'
        union = " | ".join(f"{name}{event.capitalize()}" for event in items)
        yield f'\n\n{name}: TypeAlias = {union}\n"""\nAn item of a stream.\n"""\n'


def problems(document: dict[str, Any]) -> str:
    codes = document["components"]["schemas"]["ProblemCode"]["enum"]
    names = {code: re.sub("_?([a-z]+)", lambda m: m[1].capitalize(), code) for code in codes}
    classes = (
        f'class {name}Error(ProblemError):\n    """The problem `{code}`, which `docs/problems.md` '
        f'explains."""\n\n\n'
        for code, name in names.items()
    )
    table = ", ".join(f'"{code}": {name}Error' for code, name in names.items())
    head = f"{GENERATED}from .errors import ProblemError\n\n\n"
    return f"{head}{''.join(classes)}BY_CODE: dict[str, type[ProblemError]] = {{{table}}}\n"


def operations(document: dict[str, Any]) -> str:
    head = (
        "from typing import Any, Literal\n\nfrom . import types\n"
        "from ._core import ListOperation, Operation, StreamOperation, path\n\n\n"
    )
    made = (
        operation(document, route, method, item)
        for route, methods in document["paths"].items()
        for method, item in methods.items()
    )
    return GENERATED + head + "\n\n".join(made)


def operation(document: dict[str, Any], route: str, method: str, item: dict[str, Any]) -> str:
    """Returns a function that makes the operation."""
    content = [r.get("content", {}) for s, r in item["responses"].items() if s.startswith("2")]
    answer = " | ".join(dict.fromkeys(answer_type(forms) for forms in content))
    parameters = item.get("parameters", [])
    groups = {
        place: [it for it in parameters if it["in"] == place]
        for place in ("path", "query", "header")
    }
    signature = [f"{snake(it['name'])}: {type_of(it['schema'])}" for it in groups["path"]]
    forms = ", ".join(answers(document, item["responses"]))
    call = [f'"{method.upper()}"', path_of(route, groups["path"]), f"{{{forms}}}"]
    if body := item.get("requestBody"):
        default = "" if body.get("required") else " | None = None"
        signature.append(f"body: {body_type(body)}{default}")
        call.append("body=body")
    options = groups["query"] + groups["header"]
    if options:
        signature.append("*")
        signature += [
            f"{snake(it['name'])}: {type_of(it['schema'])}"
            + ("" if it.get("required") else " | None = None")
            for it in options
        ]
    for place, argument in (("query", "query"), ("header", "headers")):
        if groups[place]:
            pairs = (f'"{it["name"]}": {snake(it["name"])}' for it in groups[place])
            call.append(f"{argument}={{{', '.join(pairs)}}}")
    kind = f"Operation[{answer}]"
    page = document["components"]["schemas"].get(answer.removeprefix("types."), {})
    if "next_cursor" in page.get("properties", {}):
        kind = f"ListOperation[{type_of(page['properties']['data']['items'])}, {answer}]"
    if any(STREAM in forms for forms in content):
        kind = (
            f"StreamOperation[types.{item['operationId'][0].upper()}{item['operationId'][1:]}Item]"
        )
    return (
        f"def {snake(item['operationId'])}({', '.join(signature)}) -> {kind}:\n"
        f'    """{item["summary"].rstrip(".")}."""\n'
        f"    return {kind.split('[', maxsplit=1)[0]}({', '.join(call)})\n"
    )


def answers(document: dict[str, Any], responses: dict[str, Any]) -> Iterator[str]:
    """Returns each status that is an answer, with its media types and its members."""
    for status, response in responses.items():
        forms = response.get("content", {})
        if status.startswith("2") or JSON in forms:
            types = [JSON] if JSON in forms else [" ".join(forms)] if forms else []
            members = required(document, forms.get(JSON, {}).get("schema", {}))
            # An older server may lack a later member, so one is enough to know the answer by.
            known = members if "next_cursor" in members else members[:1]
            yield f"{status}: {(*types, *known)!r}"


def required(document: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Returns the members that every value of the schema has."""
    if "$ref" in schema:
        return required(document, document["components"]["schemas"][reference(schema)])
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        first, *others = (required(document, it) for it in choices)
        return [name for name in first if all(name in other for other in others)]
    return list(schema.get("required", []))


def answer_type(forms: dict[str, Any]) -> str:
    if JSON in forms:
        return type_of(forms[JSON]["schema"])
    return "str" if forms else "None"


def body_type(body: dict[str, Any]) -> str:
    return type_of(body["content"][JSON]["schema"])


def path_of(route: str, parameters: list[dict[str, Any]]) -> str:
    if not parameters:
        return f'"{route}"'
    names = ", ".join(snake(it["name"]) for it in parameters)
    return f'path("{re.sub("{[^}]*}", "{}", route)}", {names})'


def type_of(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"types.{reference(schema)}"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(type_of(it) for it in choices))
    if "enum" in schema:
        return f"Literal{json.dumps(schema['enum'])}"
    kind = schema.get("type")
    if kind == "array":
        return f"list[{type_of(schema['items'])}]"
    if kind == "object":
        return "dict[str, Any]"
    return "None" if kind == "null" else SIMPLE.get(str(kind), "Any")


def reference(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rsplit("/", maxsplit=1)[-1]


def snake(name: str) -> str:
    return re.sub("([A-Z])", lambda m: f"_{m[1].lower()}", name.replace("-", "")).lstrip("_")


main()
