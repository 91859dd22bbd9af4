"""Help pages, translations and example workflows say what the schemas of the nodes say."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_fake import ROOT, Host, running
from PIL import Image

LANGUAGES = ["en", "zh", "ja"]
WORKFLOWS = ["image", "video", "tiled-4k"]
WIDGETS = {"INT": int, "FLOAT": (int, float), "BOOLEAN": bool, "COMBO": str, "STRING": str}
LARGEST_THUMBNAIL = 100_000


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("comfy")
    with running(Host(folder / "models", folder / "temp")) as nodes:
        yield {name: node.define_schema() for name, node in nodes.items()}


def locale(language: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8")))


def help_page(node: str, language: str) -> str:
    where = ROOT / "web" / "docs"
    return (where / f"{node}.md" if language == "en" else where / node / f"{language}.md").read_text("utf-8")


def workflow(name: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / "example_workflows" / f"{name}.json").read_text("utf-8")))


# -- translations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_and_output_is_translated_and_nothing_else(schemas: dict[str, Any], language: str) -> None:
    texts = locale(language)
    assert list(texts) == list(schemas)
    for name, schema in schemas.items():
        assert list(texts[name]) == ["display_name", "description", "inputs", "outputs"]
        assert list(texts[name]["inputs"]) == [given.id for given in schema.inputs], name
        assert list(texts[name]["outputs"]) == [str(n) for n in range(len(schema.outputs))], name


def test_english_texts_are_those_of_the_schemas(schemas: dict[str, Any]) -> None:
    for name, text in locale("en").items():
        schema = schemas[name]
        assert (text["display_name"], text["description"]) == (schema.display_name, schema.description)
        for given in schema.inputs:
            assert text["inputs"][given.id] == {"name": given.id, "tooltip": given.facts["tooltip"]}, (name, given.id)
        for n, output in enumerate(schema.outputs):
            assert text["outputs"][str(n)] == {"name": output.facts["display_name"]}


def strings(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for value in content.values():
            yield from strings(value)
    else:
        yield content


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty_or_has_what_the_front_end_would_replace(language: str) -> None:
    for text in strings(locale(language)):
        assert text.strip() and not re.search(r"[{}@|]", text), text


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_translations_are_translated(language: str) -> None:
    english = set(strings(locale("en")))
    assert not english & set(strings(locale(language)))


def numbers(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", text))


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_translated_tooltips_name_the_same_numbers(language: str) -> None:
    """A limit or a default that changes must change in every language."""
    for name, text in locale(language).items():
        for given, words in text["inputs"].items():
            missing = numbers(locale("en")[name]["inputs"][given]["tooltip"]) - numbers(words["tooltip"])
            assert not missing, (name, given, missing)


# -- help -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_has_a_help_page_that_names_every_socket(schemas: dict[str, Any], language: str) -> None:
    for name, schema in schemas.items():
        page = help_page(name, language)
        assert page.startswith(f"# {locale(language)[name]['display_name']}\n")
        rows = {word for row in re.findall(r"^\|(.+?)\|", page, re.MULTILINE) for word in re.findall(r"`(\w+)`", row)}
        assert rows == {given.id for given in schema.inputs}, (name, language)
        for output in schema.outputs:
            assert f"`{output.facts['display_name']}`" in page, (name, language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_help_pages_offer_the_choices_that_there_are(schemas: dict[str, Any], language: str) -> None:
    for name, choice in [("DuoVSR_UpscaleVideo", "codec"), ("DuoVSR_LoadModel", "precision")]:
        given = next(given for given in schemas[name].inputs if given.id == choice)
        row = next(row for row in help_page(name, language).splitlines() if row.startswith(f"| `{choice}`"))
        assert re.findall(r"`([^`]+)`", row.split("|")[2]) == given.facts["options"]


def test_there_are_no_pages_of_nodes_that_are_not() -> None:
    names = {path.stem if path.is_file() else path.name for path in (ROOT / "web" / "docs").iterdir()}
    assert names == set(locale("en"))


# -- workflows ------------------------------------------------------------------------------------------------------


def test_the_pack_holds_these_workflows_each_with_a_picture() -> None:
    folder = ROOT / "example_workflows"
    assert {path.name for path in folder.iterdir()} == {f"{n}.{end}" for n in WORKFLOWS for end in ("json", "jpg")}
    for name in WORKFLOWS:
        picture = folder / f"{name}.jpg"
        assert picture.stat().st_size <= LARGEST_THUMBNAIL
        with Image.open(picture) as image:
            assert image.format == "JPEG" and min(image.size) >= 200


@pytest.mark.parametrize("name", WORKFLOWS)
def test_links_of_a_workflow_agree_with_its_nodes(name: str) -> None:
    graph = workflow(name)
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert graph["version"] == 0.4 and graph["last_node_id"] == max(nodes)
    assert graph["last_link_id"] == max(link[0] for link in graph["links"])
    for number, start, slot, end, socket, kind in graph["links"]:
        assert number in nodes[start]["outputs"][slot]["links"]
        assert nodes[end]["inputs"][socket]["link"] == number
        assert nodes[start]["outputs"][slot]["type"] == kind
        assert {kind, "*"} & set(nodes[end]["inputs"][socket]["type"].split(","))
    known = {link[0] for link in graph["links"]}
    assert known == {n for node in graph["nodes"] for given in node["inputs"] for n in [given["link"]] if n is not None}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_widgets_of_a_workflow_are_those_of_the_schemas(schemas: dict[str, Any], name: str) -> None:
    found = [node for node in workflow(name)["nodes"] if node["type"] in schemas]
    assert len(found) == 3  # a model, an upscaling node, a comparison
    for node in found:
        schema = schemas[node["type"]]
        widgets = [given for given in schema.inputs if given.io_type in WIDGETS]
        for given, value in zip(widgets, node["widgets_values"], strict=True):
            assert isinstance(value, WIDGETS[given.io_type]), (node["type"], given.id)  # type: ignore[arg-type]
            if given.io_type == "COMBO":
                assert value in given.facts["options"]
            elif "min" in given.facts:
                assert given.facts["min"] <= value <= given.facts["max"]
        sockets = [given.id for given in schema.inputs if given.io_type not in WIDGETS]
        assert [given["name"] for given in node["inputs"] if "widget" not in given] == sockets
        assert [output["name"] for output in node["outputs"]] == [o.facts["display_name"] for o in schema.outputs]


def test_what_the_registry_gets_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for folder in project["tool"]["comfy"]["includes"]:
        assert any(Path(ROOT / folder).iterdir()), folder
    needed = {line.partition(">")[0] for line in (ROOT / "requirements.txt").read_text("utf-8").split() if ">=" in line}
    assert needed <= {line.partition(">")[0] for line in project["project"]["dependencies"]}
    assert not needed & {"torch", "numpy", "pillow", "Pillow", "av"}, "ComfyUI's own must stay as they are"
