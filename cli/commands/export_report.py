"""Plans and manifests as text."""

from __future__ import annotations

from collections.abc import Iterator

from cli.output.table import table
from export.manifest import Manifest
from export.plan import ExportPlan
from export.records import ComponentRecord, GraphRecord, Profile
from pipeline.byte_sizes import human_size
from pipeline.checkpoint.hub import Download


def plan_text(plan: ExportPlan) -> str:
    """Return the text of `--dry-run`."""
    return "\n".join(_plan_lines(plan))


def manifest_text(manifest: Manifest) -> str:
    """Return the text of `export inspect`."""
    return "\n".join(_manifest_lines(manifest))


def download_text(download: Download) -> str:
    """Return the text of `--dry-run` for a checkpoint that has to be downloaded first."""
    rows = [(name, human_size(size)) for name, size in download.missing.items()]
    into = f"{download.repository}@{download.revision} would be downloaded to {download.folder}:"
    return "\n".join(
        (into, "", *table(("what", "size"), [*rows, ("total", human_size(download.total))]))
    )


def _plan_lines(plan: ExportPlan) -> Iterator[str]:
    yield f"{plan.model} ({plan.family}), {human_size(plan.checkpoint_bytes)} in {plan.checkpoint}"
    yield ""
    rows = [
        (p.part, p.class_name, p.precision, human_size(p.weight_bytes),
         f"at most {human_size(p.graph_bytes)}", "in the cache" if p.cached else "to export")
        for p in plan.parts
    ]  # fmt: skip
    yield from table(("part", "class", "precision", "weights", "files", "state"), rows)
    yield ""
    for room in plan.rooms:
        needed, free = human_size(room.needed), human_size(room.free)
        yield f"{room.folder}: at most {needed} needed, {free} free"


def _manifest_lines(manifest: Manifest) -> Iterator[str]:
    source = manifest.source
    yield f"{manifest.model} ({manifest.family}), exported {manifest.created.isoformat()}"
    hub = f"{source.repository}@{source.revision}, in " if source.repository else ""
    yield f"checkpoint   {hub}{source.path} ({human_size(sum(file.size for file in source.files))})"
    size = human_size(sum(file.size for file in manifest.files))
    yield f"repository   {len(manifest.files)} files, {size}; flavour {manifest.options.flavour}"
    yield f"transformer  {manifest.precision}, VAE engine {manifest.options.vae_engine}"
    versions = (f"{name} {version}" for name, version in manifest.versions.items())
    yield f"versions     {', '.join(versions)}"
    yield ""
    sizes = {file.path: file.size for file in manifest.files}
    rows = [
        (*_graph_row(component, graph), human_size(_size_of(component, graph, sizes)))
        for component in manifest.components
        for graph in component.graphs
    ]
    yield from table(
        ("part", "class", "precision", "graph", "nodes", "parity", "checks", "size"), rows
    )
    for component in manifest.components:
        if component.kept_fp32:
            yield f"\n{component.part} keeps in fp32: {', '.join(component.kept_fp32)}"
    yield ""
    profiles = [
        (f"{component.part}/{graph.name}", name, *_shapes(profile, name))
        for component in manifest.components
        for graph in component.graphs
        for profile in graph.profiles
        for name in profile.opt
        if not name.startswith("cache_")  # which follow from the latents, and are dozens
    ]
    yield from table(("graph", "input", "min", "opt", "max"), profiles)


def _graph_row(component: ComponentRecord, graph: GraphRecord) -> tuple[str, ...]:
    parity = graph.parity
    figures = f"max abs {parity.max_abs:.1e}, cosine {parity.cosine:.6f}" if parity else "-"
    checks = (
        " ".join(f"{check.target} {'ok' if check.ok else 'failed'}" for check in graph.checks)
        or "-"
    )
    return (
        component.part,
        component.class_name,
        component.precision,
        graph.name,
        str(graph.nodes),
        figures,
        checks,
    )


def _size_of(component: ComponentRecord, graph: GraphRecord, sizes: dict[str, int]) -> int:
    names = (graph.file, f"{graph.file}.data", graph.plan or "")
    return sum(sizes.get(f"{component.part}/1/{name}", 0) for name in names if name)


def _shapes(profile: Profile, name: str) -> tuple[str, ...]:
    """Shapes of one input in a profile: min, opt and max."""
    return tuple(
        "x".join(map(str, shapes[name])) for shapes in (profile.min, profile.opt, profile.max)
    )
