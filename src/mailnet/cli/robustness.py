"""The commands that measure how much a run withstands: attacks, natural damage, certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mailnet.cli.options import Cache, DataRoot, Device, Json, RunPath, ShareOption, SkipBad
from mailnet.cli.output import print_json, say


def attack(
    context: typer.Context,
    run: RunPath,
    suite: Annotated[
        str | None,
        typer.Option(
            help="standard, rand, quick, published, or attacks of your own choice, as pgd:steps=50+square; default the "
            "suite that fits.",
            show_default=False,
        ),
    ] = None,
    norm: Annotated[str, typer.Option(help="linf, l2 or l1.")] = "linf",
    eps: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]RADIUS",
            help="Radius, as 4/255, of all modalities or of one; may be repeated. Default for linf 1, 2, 4 and 8/255.",
            show_default=False,
        ),
    ] = None,
    modality: Annotated[
        list[str] | None, typer.Option(help="Only this is in the attacker's hands; may be repeated.")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=RADIUS", help="Also this table, in standard deviations.", show_default=False),
    ] = None,
    each_modality: Annotated[
        bool, typer.Option("--each-modality", help="Also each modality alone, at the middle radius.")
    ] = False,
    task: Annotated[list[str] | None, typer.Option(help="Attack this task only; may be repeated.")] = None,
    together: Annotated[bool, typer.Option("--together", help="Also all tasks at once.")] = False,
    studies: Annotated[
        int | None, typer.Option(help="So many, drawn at random; default all.", show_default=False)
    ] = None,
    audit: Annotated[bool, typer.Option("--audit", help="Look for signs that gradients are masked.")] = False,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another run on the study, of which the audit carries attacks over; may be repeated.",
            show_default=False,
        ),
    ] = None,
    straight_through: Annotated[
        bool,
        typer.Option("--straight-through", help="Gradients pass through clips of the network, as an audit may advise."),
    ] = False,
    precision: Annotated[
        str, typer.Option(help="fp32, or bf16 for a mostly faster search, judged in full precision.")
    ] = "fp32",
    modes: Annotated[
        bool, typer.Option(help="A random network also with its noise off and with a known seed, at the middle radius.")
    ] = True,
    max_draws: Annotated[int, typer.Option(help="Most draws of a random network that a gradient averages.")] = 50,
    repeats: Annotated[int, typer.Option(help="Fresh draws by which a random network is scored.")] = 20,
    study: Annotated[
        Path | None, typer.Option(help="Another study.yaml, for external validation.", show_default=False)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, val, test, or all; default test, and all with --study.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; default the run, needed with --study.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Studies at a time.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the attacks and the choice of studies.")] = 0,
    i_know: Annotated[bool, typer.Option("--i-know", help="Run a suite that does not fit the network.")] = False,
    share: ShareOption = None,
    data_root: DataRoot = None,
    skip_bad: SkipBad = False,
    cache: Cache = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Attack a run's studies and write the result card; given again after a stop, it goes on where it was.

    With --share a process attacks its share of the batches; when all have ended, the same command without it writes the
    card. Given before, it attacks what is left, and shares still at work end.
    """
    from mailnet.bundle.share import parse_share
    from mailnet.cli.attack import finishing_command, print_attack, print_share, read_levels, read_tables
    from mailnet.robustness.attack.measure import measure_robustness

    card = measure_robustness(
        run, study=study, split=split or ("test" if study is None else "all"), suite=suite, norm=norm,
        eps=read_levels(eps or ()), modalities=modality or None, tables=read_tables(table or ()),
        each_modality=each_modality, tasks=task or None, together=together, studies=studies, modes=modes,
        max_draws=max_draws, repeats=repeats, batch_size=batch_size, seed=seed, audit=audit, sources=source or (),
        straight_through=straight_through, precision=precision, i_know=i_know, out=out, data_root=data_root,
        skip_bad=skip_bad, cache=cache, device=device, say=say, share=None if share is None else parse_share(share),
    )  # fmt: skip
    if share is not None:
        done = {**card, "next": None if card["card"] else finishing_command(context.obj)}
        print_json(done) if as_json else print_share(done)
    elif as_json:
        print_json(card)
    else:
        print_attack(card, run if out is None else out)


def corrupt(
    run: RunPath,
    modality: Annotated[list[str] | None, typer.Option(help="Damage this one only; may be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="This kind of damage only; may be repeated.")] = None,
    severity: Annotated[list[int] | None, typer.Option(help="This severity of 1 to 5 only; may be repeated.")] = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    reference: Annotated[
        Path | None, typer.Option(help="Another run on the same studies to divide errors by.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default the run.")] = None,
    seed: Annotated[int, typer.Option(help="Of the damage.")] = 0,
    data_root: DataRoot = None,
    skip_bad: SkipBad = False,
    cache: Cache = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure natural damage: noise, motion and the like in five strengths, a modality missing or another patient's.

    Given again after a stop, it goes on where it was.
    """
    from mailnet.cli.corrupt import print_damage
    from mailnet.robustness.damage.measure import measure_damage

    result = measure_damage(
        run, modalities=modality or (), kinds=kind or (), severities=severity or (), split=split, reference=reference,
        out=out, data_root=data_root, skip_bad=skip_bad, cache=cache, device=device, seed=seed, say=say,
    )  # fmt: skip
    print_json(result) if as_json else print_damage(result, run if out is None else out)


def certify(
    run: RunPath,
    sigma: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]SIGMA",
            help="Deviation of the noise on every image, as 0.25, or of one; may be repeated. Needed.",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Noisy copies a study.")] = 1000,
    level: Annotated[float, typer.Option(help="Chance that the promise of a study is wrong.")] = 0.001,
    studies: Annotated[int | None, typer.Option(help="How many, drawn at random; default all.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="This task only; may be repeated.")] = None,
    noise: Annotated[str, typer.Option(help="Of a random network itself: sample or off.")] = "sample",
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default the run.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    data_root: DataRoot = None,
    skip_bad: SkipBad = False,
    cache: Cache = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Certify within which distance no change of an image can change the answer, by randomized smoothing.

    Given again after a stop, it goes on where it was.
    """
    from mailnet.cli.certify import parse_sigma, print_certificate
    from mailnet.robustness.certificate.certify import certify_run

    result = certify_run(
        run, parse_sigma(sigma or ()), draws=draws, level=level, studies=studies, tasks=task or (), noise=noise,
        split=split, out=out, data_root=data_root, skip_bad=skip_bad, cache=cache, device=device, seed=seed, say=say,
    )  # fmt: skip
    print_json(result) if as_json else print_certificate(result, run if out is None else out)
