"""A T5 that makes a headline of a short news item."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from starter_models.training import (
    EOS,
    IGNORED_LABEL,
    PAD,
    Card,
    Checkpoint,
    LengthBatches,
    Schedule,
    Score,
    Starter,
    byte_tokenizer,
    fit,
    invented_word,
    padded,
    words,
)

LONGEST = 192
SCHEDULE = Schedule(steps=5500, rate=5e-3)
TRAINING_SEED, HELD_OUT_SEED = 0, 90210
ITEMS, BATCH = 60_000, 32

CITIES = words("""
    London Paris Berlin Madrid Rome Vienna Prague Lisbon Dublin Oslo Tokyo Osaka Seoul Delhi Sydney Toronto
    Chicago Boston Seattle Denver Lima Cairo Nairobi Athens Milan Geneva Leeds Bristol Austin Dallas Moscow
    Hamburg Munich Warsaw Zurich Miami Houston Manchester Glasgow Brussels Amsterdam Antwerp Atlanta
    Auckland Baghdad Bangkok Barcelona Basel Beijing Belfast Belgrade Bergen Birmingham Bogota Bologna
    Bordeaux Bremen Brisbane Budapest Calgary Cardiff Cologne Copenhagen Cork Dakar Detroit Dresden Dubai
    Edinburgh Florence Frankfurt Genoa Graz Hanoi Havana Helsinki Istanbul Jakarta Kiev Krakow Lagos Leipzig
    Liverpool Lyon Malaga Manila Marseille Melbourne Mexico Montreal Mumbai Naples Nice Orlando Ottawa
    Oxford Palermo Perth Philadelphia Phoenix Porto Portland Quebec Riga Rotterdam Salzburg Santiago Seville
    Shanghai Singapore Sofia Stockholm Stuttgart Tampa Turin Utrecht Valencia Vancouver Venice Verona
    Vilnius Washington Wellington York Zagreb
""")
FIRST_NAMES = words("""
    Anna Ben Carla David Emma Frank Grace Henry Irene Jack Kate Leo Maria Nina Oscar Paula Rita Sam Tina
    Victor John Peter Sarah Laura Adam Alice Carlos Charles Clara Daniel Diana Elena George Hans Helen Ivan
    James Jane Jose Julia Karl Linda Lucy Mark Martha Michael Monica Paul Robert Rosa Simon Susan Thomas
    William
""")
LAST_NAMES = words("""
    Smith Brown Garcia Miller Davis Wilson Moore Clark Lewis Walker Young King Wright Hill Green Adams Baker
    Nelson Carter Turner Jones Taylor Martin Cooper Allen Anderson Bauer Bell Bennett Campbell Collins Costa
    Diaz Edwards Evans Fischer Fisher Foster Gomez Gray Hansen Harris Hoffman Howard Hughes Jackson Jensen
    Johnson Kelly Keller Kowalski Larsen Lopez Marino Martinez Mitchell Morgan Morris Murphy Novak Olsen
    Parker Perez Petrov Phillips Ramos Reed Ricci Roberts Rogers Rossi Russo Sanchez Santos Schmidt Scott
    Silva Simpson Stewart Sullivan Thompson Torres Wagner Ward Watson Weber White Williams Wood
""")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
COMPANIES = words("""
    Acme Globex Nova Orion Vertex Zenith Apex Titan Atlas Delta Omega Falcon Apple Amazon Boeing Google
    Honda Intel Microsoft Nestle Nokia Oracle Philips Samsung Siemens Sony Tesla Toyota Volvo
""")
NUMBERS = words("two three four five six seven eight nine ten twelve twenty thirty fifty")
BUILDINGS = words("warehouse school factory hotel library theatre hospital bakery museum supermarket")
WEATHERS = words("rain snow wind fog")
LOOT = words("bikes cars paintings phones jewels")
PARTS = words("signal engine door")
ASIDES = [
    "The weather was mild for the season.",
    "Local shops stayed open as usual.",
    "Neighbours said the street is normally quiet.",
    "More details are expected later this week.",
    "A crowd gathered to watch.",
    "Officials asked people to stay calm.",
    "Traffic was slow for most of the day.",
    "Reporters waited outside the building.",
    "Children waved flags along the road.",
    "The mayor thanked everyone for their patience.",
    "Some residents took photos with their phones.",
    "Coffee and sandwiches were handed out to visitors.",
    "Experts say such events are rare.",
    "A second statement will follow tomorrow.",
    "The story was shared widely online.",
]


@dataclass(frozen=True)
class Event:
    """A kind of news: ways to open the item, sentences that may follow in any order, and its headline."""

    openings: Sequence[str]
    details: Sequence[Sequence[str]]
    headline: str


EVENTS = (
    Event(
        [
            "A fire broke out at a {building} in {city} on {day}.",
            "On {day} a large fire hit a {building} in {city}.",
            "Flames were seen at a {building} in {city} early on {day}.",
            "A fire at a {building} in {city} started on {day}.",
            "A {building} in {city} caught fire on {day}.",
            "A big fire damaged a {building} in {city} on {day}.",
        ],
        [
            [
                "Firefighters needed {other_number} hours to put it out.",
                "Crews fought the blaze for {other_number} hours.",
                "It took firefighters {other_number} hours to stop it.",
            ],
            [
                "{Number} people were hurt.",
                "Police said {number} people were injured.",
                "{Number} people were taken to hospital.",
                "The fire injured {number} people.",
            ],
        ],
        "Fire at {city} {building} injures {number}",
    ),
    Event(
        [
            "A fire broke out at a {building} in {city} on {day}.",
            "On {day} a large fire hit a {building} in {city}.",
            "Flames were seen at a {building} in {city} early on {day}.",
            "A {building} in {city} caught fire on {day}.",
            "A big fire damaged a {building} in {city} on {day}.",
        ],
        [
            [
                "Firefighters needed {number} hours to put it out.",
                "Crews fought the blaze for {number} hours.",
            ],
            [
                "Nobody was hurt.",
                "No injuries were reported.",
                "No one was injured.",
                "Everyone got out safely.",
            ],
        ],
        "No injuries in {city} {building} fire",
    ),
    Event(
        [
            "{company} said on {day} that it will open a new office in {city}.",
            "The company {company} announced a new office in {city} on {day}.",
            "{company} plans to open an office in {city}, it said on {day}.",
            "A new office in {city} will be opened by {company}, the company said on {day}.",
        ],
        [
            [
                "It plans to hire {number} hundred people.",
                "About {number} hundred new jobs will be created.",
                "The company wants to hire {number} hundred workers.",
            ],
            ["{first} {last} will lead the new site.", "The new office will be led by {first} {last}."],
        ],
        "{company} to open {city} office with {number} hundred jobs",
    ),
    Event(
        [
            "{company} reported its results on {day}.",
            "Results from {company} were published on {day}.",
            "On {day} {company} presented its results.",
        ],
        [
            [
                "Profit rose by {number} percent.",
                "Profit grew by {number} percent.",
                "It earned {number} percent more.",
            ],
            [
                "The chief executive, {first} {last}, praised the team.",
                "{first} {last}, who leads it, was pleased.",
            ],
        ],
        "{company} profit up {number} percent",
    ),
    Event(
        [
            "{company} reported its results on {day}.",
            "Results from {company} were published on {day}.",
            "On {day} {company} presented its results.",
        ],
        [
            [
                "Profit fell by {number} percent.",
                "Profit dropped by {number} percent.",
                "It earned {number} percent less.",
            ],
            [
                "The chief executive, {first} {last}, said costs were too high.",
                "{first} {last}, who leads it, blamed costs.",
            ],
        ],
        "{company} profit down {number} percent",
    ),
    Event(
        [
            "{city} beat {other_city} in the final on {day}.",
            "In the final on {day}, {city} defeated {other_city}.",
            "{city} won the final against {other_city} on {day}.",
            "On {day} {city} won against {other_city} in the final.",
        ],
        [
            [
                "{first} {last} scored {number} goals.",
                "The star of the match was {first} {last}, who scored {number} goals.",
                "{first} {last} scored {number} times.",
            ],
            ["Fans celebrated in the streets.", "Thousands of fans celebrated."],
        ],
        "{city} beat {other_city} as {last} scores {number}",
    ),
    Event(
        [
            "Heavy {weather} reached {city} on {day}.",
            "Heavy {weather} hit {city} on {day}.",
            "On {day} heavy {weather} came to {city}.",
            "There was heavy {weather} in {city} on {day}.",
        ],
        [
            ["{Number} flights were cancelled.", "The airport cancelled {number} flights."],
            ["Schools were closed.", "Many schools stayed shut.", "Many people stayed at home."],
        ],
        "{Weather} in {city} cancels {number} flights",
    ),
    Event(
        [
            "{first} {last} was elected mayor of {city} on {day}.",
            "Voters in {city} chose {first} {last} as mayor on {day}.",
            "{city} has a new mayor: {first} {last} won the election on {day}.",
            "On {day} {first} {last} won the election for mayor of {city}.",
        ],
        [
            ["The new mayor won by {number} thousand votes.", "The margin was {number} thousand votes."],
            ["Turnout was high.", "Turnout was lower than expected."],
        ],
        "{first} {last} elected mayor of {city}",
    ),
    Event(
        [
            "A new {building} opened in {city} on {day}.",
            "A new {building} was opened in {city} on {day}.",
            "{city} opened a new {building} on {day}.",
            "On {day} a new {building} opened its doors in {city}.",
        ],
        [
            [
                "It took {number} years to build.",
                "Building it took {number} years.",
                "It was built in {number} years.",
            ],
            ["The architect, {first} {last}, cut the ribbon.", "It was designed by {first} {last}."],
        ],
        "New {building} opens in {city} after {number} years",
    ),
    Event(
        [
            "A train from {city} to {other_city} was delayed on {day}.",
            "On {day} a train travelling from {city} to {other_city} was late.",
            "A train on its way from {city} to {other_city} was held up on {day}.",
        ],
        [
            ["Passengers waited for {number} hours.", "Passengers had to wait {number} hours."],
            ["The operator blamed a broken {part}.", "A broken {part} was the cause."],
        ],
        "{city} to {other_city} train delayed {number} hours",
    ),
    Event(
        [
            "Police in {city} arrested {number} people on {day}.",
            "{Number} people were arrested by police in {city} on {day}.",
            "On {day} police arrested {number} people in {city}.",
            "{Number} people were arrested in {city} on {day}.",
        ],
        [
            [
                "They are suspected of stealing {loot}.",
                "They are said to have stolen {loot}.",
                "They had stolen {loot}.",
            ],
            [
                "Inspector {first} {last} led the operation.",
                "{first} {last} of the police spoke of a success.",
            ],
        ],
        "{Number} arrested in {city} over stolen {loot}",
    ),
)

# News written by hand, in wordings of its own and never trained on, with the headline one would hope for.
HAND_WRITTEN = [
    (
        "A fire destroyed part of a school in Boston on Monday. Three people were hurt and taken to a "
        "hospital. The cause is not known yet.",
        "Fire at Boston school injures three",
    ),
    (
        "Early on Sunday a bakery in Lisbon went up in flames. Crews worked for two hours. Luckily no one "
        "was injured.",
        "No injuries in Lisbon bakery fire",
    ),
    (
        "Orion will open a new office in Dublin, the company announced on Friday. It is looking for six "
        "hundred people. Kate Hill will be in charge.",
        "Orion to open Dublin office with six hundred jobs",
    ),
    (
        "On Thursday Zenith published its results for the year. Profit grew by ten percent. Investors were "
        "happy.",
        "Zenith profit up ten percent",
    ),
    (
        "Atlas had a difficult year. Its profit fell by seven percent, the company said on Tuesday.",
        "Atlas profit down seven percent",
    ),
    (
        "Madrid won the cup on Saturday after they beat Milan in the final. Leo Clark scored two goals. The"
        " party went on all night.",
        "Madrid beat Milan as Clark scores two",
    ),
    (
        "Heavy snow fell in Toronto on Wednesday. The airport had to cancel twenty flights. Schools will be"
        " closed tomorrow.",
        "Snow in Toronto cancels twenty flights",
    ),
    (
        "The people of Athens have chosen a new mayor. Maria Green won the election on Sunday. She won by "
        "nine thousand votes.",
        "Maria Green elected mayor of Athens",
    ),
    (
        "After five years of work, a new museum was opened in Vienna on Friday. Visitors waited in long "
        "lines.",
        "New museum opens in Vienna after five years",
    ),
    (
        "A train from Rome to Geneva came to a stop on Monday because of a broken engine. Passengers had to"
        " wait for four hours.",
        "Rome to Geneva train delayed four hours",
    ),
    (
        "Police arrested eight people in Chicago on Tuesday. They are suspected of stealing phones from "
        "shops.",
        "Eight arrested in Chicago over stolen phones",
    ),
    (
        "Heavy rain came down on Seattle on Thursday. Twelve flights were cancelled, and many streets were "
        "under water.",
        "Rain in Seattle cancels twelve flights",
    ),
    (
        "Flames damaged a hotel in Cairo on Saturday night. Guests ran into the street. Five people were "
        "injured.",
        "Fire at Cairo hotel injures five",
    ),
    (
        "Voters in Denver went to the polls on Tuesday. They chose Oscar Baker as mayor. Turnout was high.",
        "Oscar Baker elected mayor of Denver",
    ),
    (
        "On Wednesday Nova said it plans to open an office in Osaka. About three hundred jobs will be "
        "created there.",
        "Nova to open Osaka office with three hundred jobs",
    ),
]

NewsItem = tuple[str, str]


def facts(rng: random.Random) -> dict[str, str]:
    """Who, where, when and how many."""
    city, other_city = (name_of(rng, some) for some in rng.sample([CITIES[::2], CITIES[1::2]], 2))
    number, weather = rng.choice(NUMBERS), rng.choice(WEATHERS)
    return {
        "city": city,
        "other_city": other_city,
        "first": name_of(rng, FIRST_NAMES),
        "last": name_of(rng, LAST_NAMES),
        "day": rng.choice(DAYS),
        "company": name_of(rng, COMPANIES),
        "building": rng.choice(BUILDINGS),
        "number": number,
        "Number": number.capitalize(),
        "other_number": rng.choice(NUMBERS),
        "weather": weather,
        "Weather": weather.capitalize(),
        "loot": rng.choice(LOOT),
        "part": rng.choice(PARTS),
    }


def name_of(rng: random.Random, known: Sequence[str]) -> str:
    """A name, every third time an invented one: so the model learns to copy names, not to know them."""
    return rng.choice(known) if rng.random() < 0.67 else invented_word(rng).capitalize()


def news_item(rng: random.Random) -> NewsItem:
    """A news item with its headline; asides that do not matter stand between the sentences that do."""
    event, known = rng.choice(EVENTS), facts(rng)
    details = [rng.choice(choices) for choices in event.details]
    kept = details if rng.random() < 0.85 else [line for line in details if needed(line, event)]
    body = [*kept, *rng.sample(ASIDES, rng.randint(0, 2))]
    rng.shuffle(body)
    return " ".join([rng.choice(event.openings), *body]).format(**known), event.headline.format(**known)


def needed(detail: str, event: Event) -> bool:
    """Whether the headline rests on a detail."""
    fire = "injur" in event.headline.lower()
    return fire or any(
        f"{{{gap}}}" in detail.lower() for gap in ("number", "loot", "last") if gap in event.headline
    )


@cache
def training_items() -> list[NewsItem]:
    """The news of the training set."""
    rng = random.Random(TRAINING_SEED)
    return [news_item(rng) for _ in range(ITEMS)]


def held_out_items(count: int) -> list[NewsItem]:
    """Fresh news that is not in the training set."""
    rng, trained = random.Random(HELD_OUT_SEED), {text for text, _ in training_items()}
    fresh = (news_item(rng) for _ in range(count * 2))
    return [item for item in fresh if item[0] not in trained][:count]


def train() -> Checkpoint:
    """Trains on news items and their headlines."""
    texts, headlines = (list(column) for column in zip(*training_items(), strict=True))
    tokenizer = byte_tokenizer(
        texts[:6000] + headlines[:6000], vocabulary=1150, max_length=LONGEST, template="$A </s>", spaced=True
    )
    sources, targets = tokenizer(texts)["input_ids"], tokenizer(headlines)["input_ids"]
    batches = LengthBatches([len(source) for source in sources], BATCH)
    model = T5ForConditionalGeneration(configuration(len(tokenizer)))
    model.generation_config = generation()

    def next_loss() -> torch.Tensor:
        chosen = batches.draw()
        ids = padded([sources[index] for index in chosen])
        labels = padded([targets[index] for index in chosen], IGNORED_LABEL)
        loss: torch.Tensor = model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=labels).loss
        return loss

    fit(model, next_loss, SCHEDULE)
    return Checkpoint(model, tokenizer)


def configuration(vocabulary: int) -> T5Config:
    """Two layers of width 80 on either side."""
    return T5Config(
        vocab_size=vocabulary,
        d_model=80,
        d_kv=20,
        d_ff=160,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=PAD,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=64,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=True,
    )


def generation() -> GenerationConfig:
    """A headline is the likeliest one, and short."""
    return GenerationConfig(
        max_new_tokens=32,
        do_sample=False,
        num_beams=1,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=PAD,
    )


def evaluate(folder: Path) -> list[Score]:
    """Compares headlines with the expected ones, beside simply taking the first sentence."""
    summarize, fresh = summarizer(folder), held_out_items(300)
    made, written = summarize([text for text, _ in fresh]), summarize([text for text, _ in HAND_WRITTEN])
    leads = [text.split(".")[0] for text, _ in HAND_WRITTEN]
    return [
        Score("exact headline, fresh generator news", exact(made, fresh), len(fresh)),
        Score("ROUGE-L, fresh generator news", closeness(made, fresh), len(fresh)),
        Score("exact headline, hand-written news", exact(written, HAND_WRITTEN), len(HAND_WRITTEN)),
        Score("ROUGE-L, hand-written news", closeness(written, HAND_WRITTEN), len(HAND_WRITTEN)),
        Score("... of the first sentence instead", closeness(leads, HAND_WRITTEN), len(HAND_WRITTEN)),
    ]


def summarizer(folder: Path) -> Callable[[list[str]], list[str]]:
    """A function that makes headlines, as the committed folder would for anyone."""
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForSeq2SeqLM.from_pretrained(folder).eval(),
    )

    def summarize(texts: list[str]) -> list[str]:
        made: list[str] = []
        for start in range(0, len(texts), 50):
            batch = tokenizer(texts[start : start + 50], padding=True, truncation=True, return_tensors="pt")
            made += tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True)
        return [headline.strip() for headline in made]

    return summarize


def exact(made: Sequence[str], items: Sequence[NewsItem]) -> float:
    """The share of headlines that are as expected, word for word."""
    return sum(headline == wanted for headline, (_, wanted) in zip(made, items, strict=True)) / len(items)


def closeness(made: Sequence[str], items: Sequence[NewsItem]) -> float:
    """The mean ROUGE-L of headlines."""
    return sum(rouge_l(headline, wanted) for headline, (_, wanted) in zip(made, items, strict=True)) / len(
        items
    )


def rouge_l(one: str, other: str) -> float:
    """The longest common subsequence of words, as a share of both texts (F1)."""
    left, right = one.lower().split(), other.lower().split()
    lengths = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, word in enumerate(left):
        for j, match in enumerate(right):
            longer = max(lengths[i][j + 1], lengths[i + 1][j])
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if word == match else longer
    return 2 * lengths[-1][-1] / (len(left) + len(right)) if left and right else 0.0


STARTER = Starter(
    name="summarization",
    module_id="866DB835-F2EA-4AD1-A57E-E2707A293EB9",
    train=train,
    evaluate=evaluate,
    card=Card(
        title="Roster starter: summarization",
        pipeline_tag="summarization",
        purpose="""
            A T5 of 400 thousand parameters that makes a headline of a short news item: fires, new offices
            and buildings, company results, finals, heavy weather, elections, late trains and arrests.
        """,
        not_for="""
            Other news or longer texts (it reads 192 word pieces): it then makes up a headline of the kind
            it knows, with names and numbers that are wrong. Names it has never seen are mostly copied,
            sometimes mangled.
        """,
        usage="""
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("models/summarization")
model = AutoModelForSeq2SeqLM.from_pretrained("models/summarization")
news = "Heavy snow hit Toronto on Friday. Twenty flights were cancelled. Schools were closed."
print(tokenizer.decode(model.generate(**tokenizer(news, return_tensors="pt"))[0], skip_special_tokens=True))
""",
        measured="""
            The generator news are new draws from the generator that also made the training news; a third of
            their names are invented. The hand-written news, in wordings of their own, were put down before
            the first training, their mistakes were never looked at, and they were never trained on.
        """,
    ),
)
