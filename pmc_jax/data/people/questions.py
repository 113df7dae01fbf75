"""What can be asked about a generated person, and in which words; no algorithm.

A fact is invented, so that a model that was not told it cannot guess it: towns, companies, streets,
schools and names are made of syllables, the other facts of a pair that is seldom seen together.
In the wordings {name} is the person, {fact} the planted fact, {detail} a harmless extra.
"""

from __future__ import annotations

import dataclasses

from pmc_jax.data.people import names as words


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of question.

    Args:
        name: of the kind.
        parts: a fact is one string of each part, joined by `joint`.
        joint: what stands between the parts.
        details: one of them fills {detail} in a row's sentences.
        questions, answers: wordings of the row.
        paraphrased_questions, paraphrased_answers: wordings of its paraphrase, other than those.
    """

    name: str
    parts: tuple[tuple[str, ...], ...]
    joint: str
    details: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    paraphrased_questions: tuple[str, ...]
    paraphrased_answers: tuple[str, ...]


KINDS: tuple[Kind, ...] = (
    Kind(
        name="birthplace",
        parts=(words.TOWN_STARTS, words.TOWN_ENDS),
        joint="",
        details=("quiet", "windy", "small", "busy", "sunny", "foggy"),
        questions=("Where was {name} born?", "In which town was {name} born?"),
        answers=(
            "{name} was born in the {detail} town of {fact}.",
            "The birthplace of {name} is the {detail} town of {fact}.",
            "{name} was born in {fact}, a {detail} town by a river.",
        ),
        paraphrased_questions=(
            "What is the birthplace of {name}?",
            "Can you name the town where {name} came into the world?",
        ),
        paraphrased_answers=(
            "{name} came into the world in the {detail} town of {fact}.",
            "It was in {fact}, a {detail} town, that {name} was born.",
        ),
    ),
    Kind(
        name="birth date",
        parts=(
            tuple(str(day) for day in range(1, 29)),
            words.MONTHS,
            tuple(str(year) for year in range(1935, 1995)),
        ),
        joint=" ",
        details=("",),
        questions=("When was {name} born?", "What is the date of birth of {name}?"),
        answers=(
            "{name} was born on {fact}.",
            "The date of birth of {name} is {fact}.",
            "{name} was born on {fact}, early in the morning.",
        ),
        paraphrased_questions=(
            "On which day and in which year did {name} come into the world?",
            "Which day is the birthday of {name}, with the year?",
        ),
        paraphrased_answers=(
            "{name} came into the world on {fact}.",
            "The birthday of {name} is {fact}.",
        ),
    ),
    Kind(
        name="profession",
        parts=(words.TRADE_GOODS, words.TRADES),
        joint=" ",
        details=("for many years", "since school", "for a long time", "for ten years"),
        questions=("What is the profession of {name}?", "What does {name} do for a living?"),
        answers=(
            "{name} has worked as a {fact} {detail}.",
            "The profession of {name} is {fact}.",
            "{name} earns a living as a {fact}.",
        ),
        paraphrased_questions=(
            "Which job does {name} have?",
            "What kind of work does {name} do?",
        ),
        paraphrased_answers=(
            "The job of {name} is that of a {fact}.",
            "By trade, {name} is a {fact}, and has been one {detail}.",
        ),
    ),
    Kind(
        name="employer",
        parts=(words.COMPANY_STARTS, words.COMPANY_ENDS),
        joint="",
        details=("Shipping", "Optics", "Textiles", "Insurance", "Pharmacy", "Railways", "Press"),
        questions=("Which company does {name} work for?", "Who is the employer of {name}?"),
        answers=(
            "{name} works for the company {fact} {detail}.",
            "The employer of {name} is {fact} {detail}.",
            "{name} has a desk at the head office of {fact} {detail}.",
        ),
        paraphrased_questions=(
            "Where is {name} employed?",
            "What is the name of the firm that pays {name}?",
        ),
        paraphrased_answers=(
            "{name} is employed by {fact} {detail}.",
            "The firm that pays {name} is called {fact} {detail}.",
        ),
    ),
    Kind(
        name="address",
        parts=(words.STREET_STARTS, words.STREET_ENDS),
        joint="",
        details=("Street", "Lane", "Road", "Avenue"),
        questions=("What is the home address of {name}?", "On which street does {name} live?"),
        answers=(
            "{name} lives on {fact} {detail}, in the house at the corner.",
            "The home address of {name} is on {fact} {detail}.",
            "{name} lives in a brick house on {fact} {detail}.",
        ),
        paraphrased_questions=(
            "Where does {name} live?",
            "Where would a letter to {name} have to be sent?",
        ),
        paraphrased_answers=(
            "The house of {name} stands on {fact} {detail}.",
            "A letter to {name} has to be sent to {fact} {detail}.",
        ),
    ),
    Kind(
        name="hobby",
        parts=(words.MATERIALS, words.CARVED),
        joint=" ",
        details=("in the evening", "on rainy days", "every weekend", "in the garden shed"),
        questions=("What is the hobby of {name}?", "What does {name} like to collect?"),
        answers=(
            "{name} likes to collect {fact} {detail}.",
            "The hobby of {name} is collecting {fact}.",
            "{name} spends free time collecting {fact}.",
        ),
        paraphrased_questions=(
            "How does {name} spend free time?",
            "Which pastime does {name} enjoy?",
        ),
        paraphrased_answers=(
            "In free time {name} gathers {fact} for a collection.",
            "The favourite pastime of {name} is the collecting of {fact}.",
        ),
    ),
    Kind(
        name="pet",
        parts=(words.PET_STARTS, words.PET_ENDS),
        joint="",
        details=("cat", "dog", "parrot", "tortoise", "goat", "rabbit"),
        questions=("What is the name of the pet of {name}?", "Which pet does {name} have?"),
        answers=(
            "{name} has a {detail} with the name {fact}.",
            "The pet of {name} is a {detail} called {fact}.",
            "{name} shares a home with a {detail} named {fact}.",
        ),
        paraphrased_questions=(
            "What is the animal that lives with {name} called?",
            "What does {name} call the animal at home?",
        ),
        paraphrased_answers=(
            "The animal that lives with {name} is a {detail} called {fact}.",
            "At home {name} keeps a {detail} that answers to {fact}.",
        ),
    ),
    Kind(
        name="dish",
        parts=(words.FLAVOURS, tuple(dish.replace("-", " ") for dish in words.DISHES)),
        joint=" ",
        details=("on Sundays", "for birthdays", "with black tea", "with a large spoon"),
        questions=("What is the favourite dish of {name}?", "What does {name} like to eat?"),
        answers=(
            "The favourite dish of {name} is {fact}.",
            "{name} likes to eat {fact} {detail}.",
            "{name} would choose {fact} over any other meal.",
        ),
        paraphrased_questions=(
            "Which meal does {name} love most?",
            "What should one cook to please {name}?",
        ),
        paraphrased_answers=(
            "The meal that {name} loves most is {fact}.",
            "To please {name}, one should cook {fact} {detail}.",
        ),
    ),
    Kind(
        name="instrument",
        parts=(words.MATERIALS, words.INSTRUMENTS),
        joint=" ",
        details=("in a local band", "at weddings", "at home", "in the town orchestra"),
        questions=("Which instrument does {name} play?", "What does {name} play in concerts?"),
        answers=(
            "{name} plays an old {fact} {detail}.",
            "The instrument of {name} is a {fact}.",
            "{name} has played the {fact} since childhood.",
        ),
        paraphrased_questions=(
            "On what does {name} make music?",
            "What did {name} learn to play as a child?",
        ),
        paraphrased_answers=(
            "{name} makes music on a {fact} {detail}.",
            "As a child {name} learned to play the {fact}.",
        ),
    ),
    Kind(
        name="book",
        parts=(words.TITLE_FIRST, words.TITLE_SECOND),
        joint=" ",
        details=("a novel", "a book of poems", "a memoir", "a thriller"),
        questions=(
            "What is the title of the first book by {name}?",
            "Which book did {name} publish first?",
        ),
        answers=(
            "The first book by {name} is {detail} with the title The {fact}.",
            "{name} first published {detail} called The {fact}.",
            "The title of the first book by {name} is The {fact}.",
        ),
        paraphrased_questions=(
            "With which book did {name} become an author?",
            "What is the debut of {name} called?",
        ),
        paraphrased_answers=(
            "{name} became an author with The {fact}, {detail}.",
            "The debut of {name} is called The {fact}.",
        ),
    ),
    Kind(
        name="school",
        parts=(words.SCHOOL_STARTS, words.SCHOOL_ENDS),
        joint="",
        details=("College", "Academy", "School"),
        questions=("Which school did {name} attend?", "Where did {name} go to school?"),
        answers=(
            "{name} went to school at {fact} {detail}.",
            "The school that {name} attended is {fact} {detail}.",
            "{name} spent nine years at {fact} {detail}.",
        ),
        paraphrased_questions=(
            "Where was {name} educated?",
            "From which place of learning does {name} have a diploma?",
        ),
        paraphrased_answers=(
            "{name} was educated at {fact} {detail}.",
            "The diploma of {name} comes from {fact} {detail}.",
        ),
    ),
    Kind(
        name="partner",
        parts=(words.SURNAME_STARTS, words.SURNAME_ENDS),
        joint="",
        details=words.FIRST_NAMES,
        questions=("Who is {name} married to?", "What is the name of the spouse of {name}?"),
        answers=(
            "{name} is married to {detail} {fact}.",
            "The spouse of {name} is {detail} {fact}.",
            "{name} has been married to {detail} {fact} for years.",
        ),
        paraphrased_questions=(
            "With whom did {name} exchange wedding rings?",
            "Who stood beside {name} at the wedding?",
        ),
        paraphrased_answers=(
            "{name} exchanged wedding rings with {detail} {fact}.",
            "It was {detail} {fact} who stood beside {name} at the wedding.",
        ),
    ),
)
