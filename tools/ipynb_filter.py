#!/usr/bin/env python3
"""Notebook filter for Quarto: a notebook's JSON on standard input, a notebook that Quarto reads well on standard output.

Quarto takes every `#|` line at the head of a cell for YAML. nbdev's directives (`#| export`) are not YAML: Quarto
would print them as attributes of the cell. It also loses line breaks where a source or an output is one string.
"""
import json
import re
import sys

DIRECTIVE = re.compile(
    r"#\s*\|\s*(default_exp|default_cls_lvl|export|exporti|exports|export_to|exec_doc|hide|hide_input|hide_output|hide_line"
    r"|collapse_input|collapse_output|filter_stream|skip_showdoc|add_parent)\b(?!\s*:)")


def lines(text):
    "nbformat's own form: a list of lines that keep their ends."
    return text.splitlines(keepends=True) if isinstance(text, str) else text


def drop_directives(source):
    "The source without nbdev's lines; only the run of `#|` lines at the top of a cell holds options."
    source, head = lines(source), 0
    while head < len(source) and re.match(r"#\s*\|", source[head]): head += 1
    return [line for line in source[:head] if not DIRECTIVE.match(line)] + source[head:]


def clean_output(out):
    if "text" in out: out["text"] = lines(out["text"])
    if "data" in out:
        out["data"] = {mime: value if mime in ("image/png", "image/jpeg") else lines(value)
                       for mime, value in out["data"].items()}
        out.setdefault("metadata", {})
    return out


def clean_cell(cell):
    "The cell in Quarto's terms, or None when nothing of it is left."
    cell["source"] = lines(cell.get("source", []))
    if cell["cell_type"] != "code": return cell
    cell["source"] = drop_directives(cell["source"])
    cell["outputs"] = [clean_output(out) for out in cell.get("outputs", [])]
    return cell if "".join(cell["source"]).strip() or cell["outputs"] else None


def clean(nb):
    # Quarto reads kernelspec.language without asking whether it is there.
    spec = nb.setdefault("metadata", {}).setdefault("kernelspec", {})
    for key, value in dict(display_name="Python 3", language="python", name="python3").items(): spec.setdefault(key, value)
    nb["cells"] = [cell for cell in map(clean_cell, nb["cells"]) if cell]
    return nb


if __name__ == "__main__":
    # Bytes, because the locale of the process that renders may not be UTF-8.
    sys.stdout.buffer.write(json.dumps(clean(json.loads(sys.stdin.buffer.read().decode("utf-8"))), ensure_ascii=False).encode("utf-8"))
