"""Mistakes of a user, each of which strict type checkers find at its line. It is not run."""

import pmc_jax as pmc

lm = pmc.load("model")
questions = ["Where does Jane Roe live?"]
pairs = [("What is the capital of France?", "Paris.")]

pmc.forget(lm)  # error
pmc.load("model", dtyp="bfloat16")  # error
pmc.answer(lm, questions, max_tokens=8)  # error
pmc.answer(lm, questions, max_new_tokens="8")  # error
pmc.sample(lm, questions, temperatur=1.0)  # error
pmc.SamplingConfig(num_sample=8)  # error
pmc.ScheduleConfig(epochs="12")  # error
pmc.MethodConfig(name="nop")  # error
pmc.SelectionConfig(rule="worst")  # error
pmc.EvaluateConfig(measures=("sampled",))  # error
print(pmc.PMCConfig().sampling.num_sample)  # error
pmc.unlearn(lm, questions, pairs, confg={})  # error
pmc.unlearn(lm, questions, pairs, config=pmc.TrainConfig())  # error
pmc.unlearn(lm, questions, pairs, method="nop")  # error
pmc.unlearn(lm)  # error
pmc.unlearn(lm, questions, ["no pair"])  # error
pmc.unlearn(lm, questions, pairs).originals[0]  # error
print(pmc.unlearn(lm, questions, pairs).rounds.step)  # error
pmc.unlearn(lm, questions, pairs, score=lambda original: [0.0])  # error
pmc.finetune(lm, pairs, epochs=2)  # error
pmc.evaluate(lm, {"retain": pairs})["utilty"]  # error
pmc.evaluate(lm, {"retain": pairs}, retain=questions)  # error
pmc.ForgetSet(("a",), ("Where?",), answers=("There.",))  # error
pmc.load_data("forget.csv", "forget")  # error
print(pmc.load_data("forget.csv", pmc.ForgetSet).answers)  # error
lm.save("out", dtype=16)  # error
lm.save_model("out")  # error
