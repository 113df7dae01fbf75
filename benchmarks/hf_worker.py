"""Worker for `--against hf`, which runs transformers on PyTorch in its usual configuration.

`pairs.Worker` starts this script. The script needs torch and transformers, but not pmc_jax.
"""

import time
from collections.abc import Callable

import torch
import transformers
from worker_loop import serve


def load(arguments: dict) -> transformers.PreTrainedModel:
    dtype = getattr(torch, arguments["dtype"])
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments["model"], dtype=dtype)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def padded(rows: list[list[int]], length: int, value: int, *, left: bool = False) -> torch.Tensor:
    fill = [[value] * (length - len(row)) for row in rows]
    pairs = zip(fill, rows, strict=True)
    return torch.tensor([f + row if left else row + f for f, row in pairs])


def sampling(arguments: dict) -> Callable[[], dict]:
    """Returns a function that measures the useful tokens per second of `generate`.

    Useful tokens are the tokens up to the end of each answer.
    """
    model = load(arguments).eval()
    longest = max(map(len, arguments["prompts"]))
    tokens = padded(arguments["prompts"], longest, 0, left=True).to(model.device)
    ones = [[1] * len(prompt) for prompt in arguments["prompts"]]
    mask = padded(ones, longest, 0, left=True).to(model.device)
    ends = arguments["end_tokens"]
    model.generation_config.eos_token_id = ends or None
    model.generation_config.pad_token_id = 0

    def once() -> dict:
        begin = time.perf_counter()
        out = model.generate(
            tokens,
            attention_mask=mask,
            do_sample=True,
            temperature=arguments["temperature"],
            top_p=arguments["top_p"],
            top_k=arguments["top_k"],
            num_return_sequences=arguments["samples"],
            max_new_tokens=arguments["new_tokens"],
        )
        wait()
        seconds = time.perf_counter() - begin
        new = out[:, longest:]
        ended = torch.isin(new, torch.tensor(ends, device=new.device)).int()
        # An end token counts, but the tokens after it do not.
        return {"hf": int((ended.cumsum(1) - ended == 0).sum()) / seconds}

    return once


def training(arguments: dict) -> Callable[[], dict]:
    """Returns a function that measures the real tokens per second of a PMC step.

    Rows are padded to 200 tokens, as in the reference implementation, or to the longest row.
    """
    model = load(arguments).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments["learning_rate"])
    terms = arguments["terms"]
    real = sum(len(row["tokens"]) for term in terms for row in term)

    def step(length: int | None) -> float:
        begin = time.perf_counter()
        loss = 0
        for coefficient, term in zip(arguments["coefficients"], terms, strict=True):
            size = length or max(len(row["tokens"]) for row in term)
            tokens = padded([row["tokens"] for row in term], size, 0)
            mask = padded([[1] * len(row["tokens"]) for row in term], size, 0)
            labels = [[-100] * row["begin"] + row["tokens"][row["begin"] :] for row in term]
            out = model(
                input_ids=tokens.to(model.device),
                attention_mask=mask.to(model.device),
                labels=padded(labels, size, -100).to(model.device),
            )
            loss = loss + coefficient * out.loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        wait()
        return real / (time.perf_counter() - begin)

    return lambda: {"hf_padded_to_200": step(200), "hf_padded_to_longest": step(None)}


def begin(arguments: dict) -> Callable[[], dict]:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    return {"sampling": sampling, "training": training}[arguments["work"]](arguments)


if __name__ == "__main__":
    serve(begin, {"torch": torch.__version__, "transformers": transformers.__version__})
