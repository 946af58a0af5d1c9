"""A Llama that holds a small conversation."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from starter_models.training import (
    BOS,
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
    phrases,
    words,
)

LONGEST = 256
LONGEST_TRAINED = 160
SCHEDULE = Schedule(steps=4200, rate=5e-3)
TRAINING_SEED, HELD_OUT_SEED = 0, 99
CONVERSATIONS, BATCH = 40_000, 24
EACH_INTENT = 30

CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "England": "London",
    "Ireland": "Dublin",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Greece": "Athens",
    "Russia": "Moscow",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Japan": "Tokyo",
    "China": "Beijing",
    "India": "New Delhi",
    "Thailand": "Bangkok",
    "Canada": "Ottawa",
    "Cuba": "Havana",
    "Peru": "Lima",
    "Chile": "Santiago",
    "Hungary": "Budapest",
    "Belgium": "Brussels",
    "Switzerland": "Bern",
    "Turkey": "Ankara",
    "Iceland": "Reykjavik",
    "the Netherlands": "Amsterdam",
    "the United States": "Washington",
    "Australia": "Canberra",
    "Mexico": "Mexico City",
}
OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "fast": "slow",
    "happy": "sad",
    "up": "down",
    "left": "right",
    "day": "night",
    "black": "white",
    "old": "young",
    "hard": "soft",
    "rich": "poor",
    "early": "late",
    "open": "closed",
    "full": "empty",
    "light": "dark",
    "wet": "dry",
    "long": "short",
    "good": "bad",
    "strong": "weak",
    "clean": "dirty",
    "high": "low",
    "cold": "hot",
    "small": "big",
    "slow": "fast",
    "sad": "happy",
    "bad": "good",
}
COLORS = {
    "the sky": "blue",
    "grass": "green",
    "snow": "white",
    "a banana": "yellow",
    "blood": "red",
    "coal": "black",
    "an orange": "orange",
    "the sun": "yellow",
    "milk": "white",
    "a strawberry": "red",
    "a frog": "green",
    "an elephant": "gray",
    "chocolate": "brown",
    "a lemon": "yellow",
    "the ocean": "blue",
}
SOUNDS = {
    "cat": "meow",
    "dog": "woof",
    "cow": "moo",
    "duck": "quack",
    "sheep": "baa",
    "lion": "roar",
    "pig": "oink",
    "horse": "neigh",
    "frog": "ribbit",
    "bee": "buzz",
}
LEGS = {
    "dog": "four",
    "cat": "four",
    "spider": "eight",
    "bird": "two",
    "human": "two",
    "ant": "six",
    "horse": "four",
    "snake": "no",
    "chicken": "two",
    "cow": "four",
}
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = words("January February March April May June July August September October November December")
NAMES = words("""
    Anna Ben Carla David Emma Frank Grace Henry Irene Jack Kate Leo Maria Nina Oscar Paula Rita Sam Tina
    Victor Alex Alice Bob Charlie Clara Daniel Eva George Hannah Ivan Jane John Julia Laura Lisa Lucy Mark
    Max Mia Michael Nick Olivia Paul Peter Robert Sarah Simon Sofia Thomas Tom
""")
NUMBERS = words("zero one two three four five six seven eight nine ten")
UNKNOWN = [
    "quantum physics",
    "the stock market",
    "taxes",
    "philosophy",
    "my car engine",
    "cooking lasagna",
    "bitcoin",
    "football scores",
    "the news",
    "politics",
    "medicine",
    "poetry",
    "chess openings",
    "rocket science",
    "your favorite band",
    "the weather tomorrow",
    "fixing a bike",
    "my homework",
    "the meaning of life",
    "gardening",
    "black holes",
    "dinosaurs",
    "opera",
    "surfing",
    "tax law",
    "a good movie",
    "history",
    "train tickets",
    "computers",
    "music",
    "love",
    "the war",
    "space travel",
    "the president",
    "algebra",
    "cats",
    "coffee",
    "modern art",
    "the world cup",
    "airplanes",
    "the internet",
    "electricity",
    "animals in Africa",
    "the moon",
    "the first king",
    "a new house",
    "your parents",
    "my job",
    "money",
    "the economy",
    "war and peace",
    "a good book",
    "vegetables",
    "cheap flights",
    "a doctor",
    "the Romans",
    "energy",
]
JOKES = [
    "Why did the computer sneeze? It had a virus.",
    "What do you call a bear with no teeth? A gummy bear.",
    "Why was six afraid of seven? Because seven eight nine.",
]
SORRY = "Sorry, I am too small to know that."
_names = random.Random(1)
MADE_UP = [invented_word(_names) for _ in range(300)]
MADE_UP_NAMES = [word.capitalize() for word in MADE_UP]

Message = dict[str, str]
Conversation = list[Message]
Answer = Callable[[str], str]


@dataclass(frozen=True)
class Intent:
    """One thing that people ask: its trained and its held-out wordings, what fills them, and the answer."""

    trained: Sequence[str]
    held_out: Sequence[str]
    answer: Answer
    fillers: Sequence[str] = ("",)
    weight: int = 1


def crossed(leads: Sequence[str], *cores: str) -> list[str]:
    """Every lead-in with every core of a question."""
    return [f"{lead}{core}" for lead, core in product(leads, cores)]


CALLED = ("", "!", ".", " there", " bot", " my friend", " Tiny", " little machine", " everybody", " you")
ASKING = (
    "What is ",
    "What's ",
    "Tell me ",
    "Do you know ",
    "Can you tell me ",
    "Say ",
    "I want to know ",
    "Give me ",
    "Could you tell me ",
    "Please say ",
)
TELLING = ("", "Do you know ", "Can you tell me ", "I want to know ", "Please say ", "Could you tell me ")

INTENTS = {
    "greeting": Intent(
        [
            *crossed(
                ("Hello", "Hi", "Hey", "Good morning", "Good evening", "Good day", "Greetings"), *CALLED
            ),
            *phrases("""
                Hey you | Hello, hello | Howdy | Morning! | Evening! | Hello again | Hi again | Nice to meet
                you
            """),
        ],
        phrases("Good afternoon! | Hello bot! | Hey there!"),
        lambda _: "Hello! How can I help you?",
        weight=2,
    ),
    "well-being": Intent(
        phrases("""
            How are you? | How are you doing today? | How do you do? | Are you well? | How is it going? |
            How are things? | How's it going? | Hi, how are you? | Hello! How are you? | Are you ok? | How
            are you this morning? | How are you tonight? | How are you my friend? | You ok? | Are you happy?
            | How is your day? | How has your day been? | How do you feel now? | What's up? | How do you
            feel? | How are you feeling today? | Hey, how are you doing? | How are you bot?
        """),
        phrases("How are you doing? | How are you today? | Hello, how are you?"),
        lambda _: "I am fine, thank you! How are you?",
        weight=2,
    ),
    "who": Intent(
        phrases("""
            What is your name? | Who are you? | Tell me your name | What are you called? | What are you? |
            Can I know your name? | What's your name? | Do you have a name? | Say your name | And who are
            you? | Are you a robot? | Are you human? | Are you a person? | Tell me about you | Introduce
            yourself | Who am I talking to? | So what's your name, my friend? | Who is there? | What should
            I call you? | May I know your name? | What kind of thing are you? | Are you a machine? | Who
            made you?
        """),
        phrases("Tell me who you are | What is your name, bot? | Tell me about yourself"),
        lambda _: "I am Tiny, a very small language model.",
        weight=2,
    ),
    "abilities": Intent(
        phrases("""
            What can you do? | How can you help me? | Help | What do you know? | Can you help me? | Help me
            | What should I ask you? | I need help | What are you able to do? | What can I ask? | How do you
            work? | What do you do? | Tell me what you can do | What can you answer? | What questions can I
            ask you? | What can you do for me? | Could you help me please? | What sort of things do you
            know? | I am lost, help | What are your skills? | Can you do something for me? | How do I use
            you? | What do you know about?
        """),
        phrases("Please help me | What can I ask you? | What can you help me with?"),
        lambda _: "I can answer small questions about capitals, colors, opposites, animals, days and sums.",
        weight=2,
    ),
    "thanks": Intent(
        [
            *crossed(("Thank you", "Thanks", "Thanks a lot", "Great, thanks", "Cheers"), *CALLED),
            *phrases("""
                Thank you very much | Thx | Thanks a bunch! | Thanks a million | Thank you for helping me |
                Ok thanks | Ok, thank you | Thanks for your help | I thank you | Thank you for the answer |
                Nice, thank you | That helped, thanks | Very kind, thank you | Good, thanks | Thanks so much
                | Perfect, thanks!
            """),
        ],
        phrases("Many thanks! | Thank you so much | Thank you for your help"),
        lambda _: "You are welcome!",
        weight=2,
    ),
    "goodbye": Intent(
        [
            *crossed(("Bye", "Goodbye", "Good night", "See you soon", "See you later"), *CALLED),
            *phrases("""
                Bye bye | Bye for now | Farewell | See you next time | Ok goodbye | I must leave now | Until
                next time | I have to go | Goodbye, bot | See you tomorrow | Ok, bye | Talk to you later | I
                am leaving | Ciao
            """),
        ],
        phrases("Goodbye for now | See you! | Bye, see you later"),
        lambda _: "Goodbye! Have a nice day.",
        weight=2,
    ),
    "joke": Intent(
        phrases("""
            Tell me a joke | Do you know a joke? | Make me laugh | A joke please | Say something funny | I
            want a joke | Joke! | Tell a joke | Another joke | Do you have a joke? | Give me a joke | Can
            you make me laugh? | I want to hear a joke | Do you know something funny? | Tell us a joke | Got
            any jokes? | Please make me laugh | Any joke? | Do you know jokes? | Tell me your best joke
        """),
        phrases("Tell me something funny | Can you tell me a joke? | Please tell me a joke"),
        lambda index: JOKES[int(index)],
        fillers=("0", "1", "2"),
        weight=2,
    ),
    "capital": Intent(
        [
            *crossed(ASKING, "the capital of {x}", "{x}'s capital", "the capital city of {x}"),
            *phrases("""
                Capital of {x} | Which city is the capital of {x} | {x} capital | Name the capital of {x} |
                What is the main city of {x} | And of {x} | And the capital of {x} | The capital of {x} is |
                {x}, capital | Which city is {x}'s capital | I'd like to know the capital of {x} | {x} has
                which capital
            """),
            *crossed(TELLING, "what the capital of {x} is", "which city is the capital of {x}"),
            *phrases("Capital city of {x}"),
        ],
        phrases("""
            Please tell me the capital city of {x} | Which is the capital of {x}? | Do you know what the
            capital of {x} is?
        """),
        lambda x: f"The capital of {x} is {CAPITALS[x]}.",
        fillers=tuple(CAPITALS),
        weight=7,
    ),
    "opposite": Intent(
        [
            *crossed(ASKING, "the opposite of {x}", "the opposite of the word {x}"),
            *phrases("""
                Opposite of {x} | What word is the opposite of {x} | And the opposite of {x} | The opposite
                of {x} is | What is the contrary of {x} | Which word is the opposite of {x} | What is
                opposite to {x} | What's the opposite word for {x} | Which word means the opposite of {x} |
                What is the exact opposite of {x} | {x}, what is its opposite | What is not {x} but the
                opposite | I need the opposite of {x}
            """),
        ],
        phrases("""
            Please tell me the opposite of {x} | Name the opposite of {x} | Which is the opposite of {x}?
        """),
        lambda x: f"The opposite of {x} is {OPPOSITES[x]}.",
        fillers=tuple(OPPOSITES),
        weight=5,
    ),
    "color": Intent(
        [
            *crossed(ASKING, "the color of {x}"),
            *crossed(TELLING, "what color {x} is", "which color {x} has"),
            *phrases("""
                What color is {x} | Which color is {x} | Color of {x} | What color has {x} | And {x}, what
                color is it | What is {x} colored like | In what color is {x} | What colour is {x} | What is
                the colour of {x} | What color are {xs} | Which color do {xs} have | What's the color of
                fresh {x} | What color is {x} usually | Which color would {x} have | {x} has which color | I
                want to know the color of {x}
            """),
        ],
        phrases("""
            What color does {x} have? | Name the color of {x} | Which color does {x} have?
        """),
        lambda x: f"{x[0].upper()}{x[1:]} is {COLORS[x]}.",
        fillers=tuple(COLORS),
        weight=4,
    ),
    "sound": Intent(
        [
            *phrases("""
                What does the {x} say | What sound does a {x} make | How does a {x} sound | What does a {x}
                say | Which sound does the {x} make | What sound does the {x} make | Which noise does a {x}
                make | How does the {x} go | What do you hear from a {x} | What is the sound of a {x} | How
                does a {x} go
            """),
            *crossed(
                TELLING,
                "what a {x} says",
                "what sound a {x} makes",
                "what noise the {x} makes",
                "how a {x} sounds",
            ),
            *phrases("""
                Make the sound of a {x} | What noise does the {x} make | The {x} says | What does my {x} say
                | What do {xs} say | What sound do {xs} make | How do {xs} sound | How does a {x} sound like
                | Which noise do {xs} make | A {x} says what
            """),
        ],
        phrases("""
            Tell me what the {x} says | What noise does a {x} make? | Which sound does a {x} make?
        """),
        lambda x: f"The {x} says {SOUNDS[x]}.",
        fillers=tuple(SOUNDS),
        weight=4,
    ),
    "legs": Intent(
        [
            *phrases("""
                How many legs does a {x} have | Number of legs of a {x} | How many legs has a {x} | Legs of
                a {x} | Tell me how many legs a {x} has | Count the legs of a {x} | A {x} has how many legs
                | What is the number of legs of a {x} | How many legs has the {x} got | How many legs on a
                {x}
            """),
            *crossed(TELLING, "how many legs the {x} has"),
            *phrases("""
                How many legs does my {x} have | And a {x}, how many legs | How many legs do {xs} have |
                Number of legs on a {x} | How many legs has a {x} got | Do {xs} have legs
            """),
        ],
        phrases("""
            How many legs are there on a {x}? | How many legs does the {x} have? | How many legs has the
            {x}?
        """),
        lambda x: f"A {x} has {LEGS[x]} legs.",
        fillers=tuple(LEGS),
        weight=3,
    ),
    "day": Intent(
        [
            *phrases("""
                What day comes after {x} | Which day is after {x} | What is the day after {x} | Which day
                follows {x} | After {x} comes which day | Today is {x}. What day is tomorrow | What day is
                after {x} | After {x} comes
            """),
            *crossed(TELLING, "what day comes after {x}", "the day after {x}", "which day comes after {x}"),
            *phrases("""
                If today is {x}, what day is tomorrow | What comes next after {x} | And after {x} | What
                comes after {x} | What day is it after {x} | Which day comes right after {x} | What is the
                next day after {x} | {x} comes before which day | If it is {x} today, what is tomorrow | {x}
                is before what day
            """),
        ],
        phrases("""
            Tell me the day after {x} | What day follows {x}? | Which day comes next after {x}?
        """),
        lambda x: f"The day after {x} is {following(DAYS, x)}.",
        fillers=DAYS,
        weight=4,
    ),
    "month": Intent(
        [
            *phrases("""
                What month comes after {x} | Which month is after {x} | What is the month after {x} | After
                {x} comes | Which month follows {x} | After {x} comes which month | What month is after {x}
                | What comes after {x}
            """),
            *crossed(
                TELLING, "what month comes after {x}", "the month after {x}", "which month comes after {x}"
            ),
            *phrases("""
                If it is {x}, what month is next | What comes next after {x} | And after {x} | What's the
                month after {x} | Which month comes right after {x} | {x} comes before which month | What is
                the next month if it is {x} | {x} is before what month
            """),
        ],
        phrases("""
            Tell me the month after {x} | What month follows {x}? | Which month comes next after {x}?
        """),
        lambda x: f"The month after {x} is {following(MONTHS, x)}.",
        fillers=MONTHS,
        weight=4,
    ),
    "sum": Intent(
        [
            *crossed(("", "What is ", "What's ", "How much is ", "Calculate ", "Compute ", "And "), "{x}"),
            *crossed(
                ("Tell me ", "Do you know ", "Can you tell me "), "{x}", "how much {x} is", "what {x} is"
            ),
            *phrases("""
                {x} =  | {x} = | {x} is | Add {y} | What is the sum of {y} | The sum of {y} | Can you add
                {y} | {y} makes | Can you add {y} for me | What do you get for {x} | How much do {y} make |
                {x} makes what | What do {y} make together | What do I get for {x} | Sum up {y}
            """),
        ],
        phrases("Please add {y} | What does {x} make? | Can you calculate {x}?"),
        lambda x: f"{x} = {sum(map(int, x.split(' + ')))}",
        fillers=[f"{a} + {b}" for a in range(11) for b in range(11)],
        weight=8,
    ),
    "unknown": Intent(
        [
            *crossed(
                ("Who ", "When did they ", "How do I ", "Why did he "),
                "find {x}",
                "lose {x}",
                "build {x}",
                "start {x}",
            ),
            *crossed(
                ("Write me ", "Give me ", "Make "),
                "a poem about {x}",
                "a story about {x}",
                "a list about {x}",
            ),
            *phrases("""
                Who won {x} | Explain how {x} works | What do you think of {x} | How much is {x} | Where can
                I buy {x} | When was {x} | Is {x} good | Are you a fan of {x} | How old is {x} | Which {x}
                is the best | What do you think about {x} | Tell me about {x} | Explain {x} | Can you talk
                about {x} | Why is {x} so hard | I have a question about {x} | Do you know about {x} | What
                is {x} | Why do people like {x} | Who made {x} | Tell me something about {x} | How does {x}
                work | Do you like {x} | Let us talk about {x} | {x} | Who invented {x} | When did {x} begin
                | I want to learn {x} | Write an essay about {x} | Where is {x}
            """),
        ],
        phrases("Could you explain {x} to me? | Teach me {x} | What do you know about {x}?"),
        lambda _: SORRY,
        fillers=[*UNKNOWN * 4, *MADE_UP],
        weight=6,
    ),
    "introduction": Intent(
        [
            *crossed(
                ("", "Hi, ", "Hello, ", "Hey, ", "Hi! ", "Hello! "),
                "my name is {x}",
                "I am {x}",
                "I'm {x}",
                "this is {x}",
            ),
            *phrases("""
                Call me {x} | You can call me {x} | My name's {x} | People call me {x} | Please call me {x}
                | {x} here | I am called {x} | It is me, {x} | They call me {x}
            """),
        ],
        phrases("Hey, my name is {x}! | Good morning, I'm {x} | Hello bot, I am {x}"),
        lambda x: f"Nice to meet you, {x}!",
        fillers=[*NAMES * 6, *MADE_UP_NAMES],
        weight=8,
    ),
    "recall": Intent(
        phrases("""
            What is my name? | Do you remember my name? | Who am I? | Say my name | Can you tell me my name?
            | What's my name? | What was my name? | Remember my name? | How am I called? | Do you know who I
            am? | What am I called? | My name is what? | Could you tell me my name? | Please say my name |
            And my name? | So what's my name then? | Have I told you my name? | Did I tell you my name? | Do
            you still know my name?
        """),
        phrases("Tell me my name | Do you know my name? | Please tell me my name"),
        lambda x: f"Your name is {x}." if x else "You did not tell me your name yet.",
        weight=4,
    ),
}

# Questions as a stranger might put them, written by hand, each with a word its answer must hold. An earlier
# set was looked at and went into the wordings above; these were written after that, only for measuring.
ANY_JOKE = "any joke"
HAND_WRITTEN = [
    ("hello there little bot", "How can I help"),
    ("Good morning to you!", "How can I help"),
    ("hey hey", "How can I help"),
    ("Hi, how are you doing today?", "I am fine"),
    ("are you doing well?", "I am fine"),
    ("How do you feel this evening?", "I am fine"),
    ("And your name is?", "Tiny"),
    ("who exactly are you?", "Tiny"),
    ("are you a human being?", "Tiny"),
    ("what are you good at?", "small questions"),
    ("Can you please help me out?", "small questions"),
    ("Thanks for the help!", "welcome"),
    ("great, thank you very very much", "welcome"),
    ("alright, bye!", "Goodbye"),
    ("good night and bye", "Goodbye"),
    ("do you know any good jokes?", ANY_JOKE),
    ("Tell me another joke please", ANY_JOKE),
    ("I need to know the capital of France.", "Paris"),
    ("What city is the capital of Greece?", "Athens"),
    ("so what's the capital of Poland then", "Warsaw"),
    ("Is there a capital of Canada? What is it called?", "Ottawa"),
    ("sweden's capital city?", "Stockholm"),
    ("Capital city of Kenya please", "Nairobi"),
    ("what would be the opposite of wet", "dry"),
    ("Give me a word that is the opposite of strong", "weak"),
    ("the opposite of early is what?", "late"),
    ("What's the opposite of the adjective open?", "closed"),
    ("What color would a lemon be?", "yellow"),
    ("tell me which color coal has", "black"),
    ("Is milk white or black? What color is milk?", "white"),
    ("the ocean has what color?", "blue"),
    ("What does the cat say to you?", "meow"),
    ("what sound would a lion make", "roar"),
    ("How do sheep sound?", "baa"),
    ("what noise do bees make?", "buzz"),
    ("How many legs do birds have?", "two"),
    ("a horse, how many legs has it?", "four"),
    ("does a snake have legs? how many?", "no legs"),
    ("what day is tomorrow if today is wednesday?", "Thursday"),
    ("Monday is followed by which day?", "Tuesday"),
    ("What day comes right after Saturday?", "Sunday"),
    ("after june, what month comes?", "July"),
    ("October is followed by which month?", "November"),
    ("What is the next month after January?", "February"),
    ("could you add 5 and 5?", "= 10"),
    ("3 + 6 equals?", "= 9"),
    ("how much do I get if I add two and eight", "= 10"),
    ("What is the result of 7 + 4?", "= 11"),
    ("hey, you can call me Anna", "Anna"),
    ("Hello! People call me David.", "David"),
    ("do you remember what I am called?", "did not tell me"),
    ("Can you explain gravity to me?", "too small"),
    ("What is your opinion on climate change?", "too small"),
    ("Who wrote Hamlet?", "too small"),
    ("How do I bake a cake?", "too small"),
]

TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] | trim + '<|end|>' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>' }}"
    "{% generation %}{{ message['content'] | trim + '<|end|>' }}{% endgeneration %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def following(cycle: Sequence[str], item: str) -> str:
    """What comes next in the week or in the year."""
    return cycle[(cycle.index(item) + 1) % len(cycle)]


def train() -> Checkpoint:
    """Trains on the answers, and a little on the questions as well."""
    conversations = training_conversations()
    tokenizer = chat_tokenizer(conversations)
    rows = [row for row in templated(tokenizer, conversations) if len(row[0]) <= LONGEST_TRAINED]
    batches = LengthBatches([len(ids) for ids, _ in rows], BATCH)
    model = LlamaForCausalLM(configuration(len(tokenizer)))
    model.generation_config = generation()

    def next_loss() -> torch.Tensor:
        chosen = [rows[index] for index in batches.draw()]
        ids, answered = padded([ids for ids, _ in chosen]), padded([marks for _, marks in chosen])
        learned = (answered == 1) | ((ids != PAD) & (torch.rand(ids.shape) < 0.1))
        labels = ids.masked_fill(~learned, IGNORED_LABEL)
        loss: torch.Tensor = model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=labels).loss
        return loss

    fit(model, next_loss, SCHEDULE)
    return Checkpoint(model, tokenizer)


def chat_tokenizer(conversations: Sequence[Conversation]) -> PreTrainedTokenizerFast:
    """A tokenizer that spells out every digit and knows the marks of the chat template."""
    texts = [message["content"] for conversation in conversations[:8000] for message in conversation]
    return byte_tokenizer(
        texts,
        vocabulary=960,
        max_length=LONGEST,
        padding_side="left",
        eos_token="<|end|>",
        more_specials=["<|user|>", "<|assistant|>"],
        chat_template=TEMPLATE,
    )


def templated(
    tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Conversation]
) -> Iterator[tuple[list[int], list[int]]]:
    """The token ids of conversations, with marks on what the assistant says."""
    for start in range(0, len(conversations), 2000):
        encoded = tokenizer.apply_chat_template(
            conversations[start : start + 2000], return_dict=True, return_assistant_tokens_mask=True
        )
        yield from zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)


def configuration(vocabulary: int) -> LlamaConfig:
    """Three layers of width 96."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LONGEST,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        tie_word_embeddings=True,
    )


def generation() -> GenerationConfig:
    """Answers are the likeliest ones: the same question gets the same answer."""
    return GenerationConfig(
        max_new_tokens=48, do_sample=False, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS
    )


def training_conversations() -> list[Conversation]:
    """The conversations of the training set."""
    rng = random.Random(TRAINING_SEED)
    return [conversation(rng) for _ in range(CONVERSATIONS)]


def conversation(rng: random.Random) -> Conversation:
    """One to four questions with their answers; a name that was told is remembered."""
    messages: Conversation = []
    name = ""
    for _ in range(rng.choice([1, 1, 2, 3, 4])):
        intent = rng.choices(list(INTENTS), [item.weight for item in INTENTS.values()])[0]
        intent = "recall" if name and rng.random() < 0.35 else intent
        question, answer, told = exchange(rng, intent, INTENTS[intent].trained, name)
        question = roughened(rng, question)
        if plain(question) not in reserved():
            name = told or name
            messages += [user(question), assistant(answer)]
    return messages or conversation(rng)


def exchange(rng: random.Random, intent: str, wordings: Sequence[str], name: str) -> tuple[str, str, str]:
    """A question, its answer and the name that the question tells, if any."""
    filler = name if intent == "recall" else rng.choice(INTENTS[intent].fillers)
    question = rng.choice(spellings(rng.choice(wordings), filler))
    return question, INTENTS[intent].answer(filler), filler if intent == "introduction" else ""


def spellings(wording: str, filler: str) -> list[str]:
    """Fills a wording; a sum is written as people do: 3 + 4, 3+4, 3 plus 4 or three plus four."""
    if " + " not in filler:
        return [wording.replace("{xs}", several(filler)).replace("{x}", filler)]
    numbers = filler.split(" + ")
    named = [NUMBERS[int(number)] for number in numbers]
    sums = [filler, "+".join(numbers), " plus ".join(numbers), " plus ".join(named)]
    return [wording.format(x=text, y=" and ".join(pair)) for text in sums for pair in (numbers, named)]


def several(noun: str) -> str:
    """Many of a thing: bananas, strawberries, sheep."""
    bare = noun.removeprefix("a ").removeprefix("an ")
    if bare.endswith("y"):
        return f"{bare[:-1]}ies"
    return bare if bare in ("sheep", "grass", "snow", "milk", "coal", "blood", "chocolate") else f"{bare}s"


@cache
def reserved() -> frozenset[str]:
    """Every question that the evaluation may ask: none of them is ever trained on."""
    held_out = [
        plain(question)
        for intent in INTENTS.values()
        for wording in intent.held_out
        for filler in intent.fillers
        for question in spellings(wording, filler)
    ]
    return frozenset([*held_out, *(plain(question) for question, _ in HAND_WRITTEN)])


def plain(question: str) -> str:
    """A question without capitals and punctuation, for telling whether two are the same."""
    kept = "".join(
        letter for letter in question.lower().replace("'", "") if letter.isalnum() or letter in " +"
    )
    return " ".join(kept.split())


def roughened(rng: random.Random, question: str) -> str:
    """Types a question as people do: small letters, missing or other marks, a word of politeness."""
    if question[-1].isalnum():
        question += rng.choice(["?", "?", "?", "", "", ".", "!"])
    elif rng.random() < 0.3:
        question = question.rstrip("?!.")
    lead = rng.random()
    if lead < 0.12:
        question = (
            rng.choice(["Please ", "Ok, ", "So, ", "And ", "Tell me, ", "Hi, ", "Well, ", "Hey, "]) + question
        )
    elif lead < 0.17:
        question = question.rstrip("?!.") + rng.choice(
            [" please", ", please", " for me", " now", ", bot", "??", " :)"]
        )
    case = rng.random()
    if case < 0.3:
        question = question.lower().replace("'", "" if rng.random() < 0.4 else "'")
    return question.upper() if case > 0.97 else question


def user(text: str) -> Message:
    """What the user says."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """What the assistant says."""
    return {"role": "assistant", "content": text}


def evaluate(folder: Path) -> list[Score]:
    """Exact answers to held-out wordings, and the right word in answers to questions written by hand."""
    reply = chatter(folder)
    asked = {intent: held_out_questions(intent) for intent in INTENTS}
    shares = {intent: share_right(reply, questions) for intent, questions in asked.items()}
    count = sum(map(len, asked.values()))
    answers = reply([[user(question)] for question, _ in HAND_WRITTEN])
    found = [holds(answer, word) for answer, (_, word) in zip(answers, HAND_WRITTEN, strict=True)]
    return [
        Score(
            "exact answer, held-out wordings", sum(shares[i] * len(asked[i]) for i in INTENTS) / count, count
        ),
        *[Score(f"... {intent}", share, len(asked[intent])) for intent, share in shares.items()],
        Score("right word, hand-written questions", sum(found) / len(found), len(found)),
    ]


def holds(answer: str, word: str) -> bool:
    """Whether an answer holds the telling word."""
    return answer in JOKES if word == ANY_JOKE else word in answer


def held_out_questions(intent: str) -> list[tuple[Conversation, list[str]]]:
    """Each held-out wording of an intent, with what may be answered; every question once."""
    rng = random.Random(f"{HELD_OUT_SEED} {intent}")
    questions: dict[str, tuple[Conversation, list[str]]] = {}
    for _ in range(EACH_INTENT * 4):
        before, name = small_talk(rng) if intent == "recall" else ([], "")
        question, answer, _ = exchange(rng, intent, INTENTS[intent].held_out, name)
        accepted = JOKES if intent == "joke" else [answer]
        questions.setdefault(f"{name} {question}", ([*before, user(question)], accepted))
    return list(questions.values())[:EACH_INTENT]


def small_talk(rng: random.Random) -> tuple[Conversation, str]:
    """What may come before someone asks for their own name: mostly an introduction, sometimes more."""
    if rng.random() < 0.3:
        return [], ""
    told, answer, name = exchange(rng, "introduction", INTENTS["introduction"].trained, "")
    before = [user(told), assistant(answer)]
    if rng.random() < 0.5:
        question, answer, _ = exchange(rng, "capital", INTENTS["capital"].trained, "")
        before += [user(question), assistant(answer)]
    return before, name


def share_right(
    reply: Callable[[list[Conversation]], list[str]], asked: list[tuple[Conversation, list[str]]]
) -> float:
    """The share of questions that get an accepted answer, word for word."""
    answers = reply([question for question, _ in asked])
    return sum(answer in accepted for answer, (_, accepted) in zip(answers, asked, strict=True)) / len(asked)


def chatter(folder: Path) -> Callable[[list[Conversation]], list[str]]:
    """A function that answers conversations, as the committed folder would for anyone."""
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForCausalLM.from_pretrained(folder).eval(),
    )

    def reply(conversations: list[Conversation]) -> list[str]:
        prompt = tokenizer.apply_chat_template(
            conversations, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        said = model.generate(**prompt)[:, prompt["input_ids"].shape[1] :]
        return [text.strip() for text in tokenizer.batch_decode(said, skip_special_tokens=True)]

    return reply


STARTER = Starter(
    name="conversational",
    module_id="BC008C71-A272-4858-9D43-7297B35ABAC4",
    train=train,
    evaluate=evaluate,
    card=Card(
        title="Roster starter: conversation",
        pipeline_tag="text-generation",
        tags=("conversational",),
        purpose="""
            A Llama of 400 thousand parameters with a chat template. It greets, tells jokes and answers
            small questions: capitals, opposites, colors, animal sounds and legs, the next day or month,
            sums up to 10 + 10. It remembers a name within a conversation and says so when a question is too
            hard for it.
        """,
        not_for="""
            Anything you would rely on. It knows only the answers it was trained on, often takes an unknown
            question for a known one, and mixes up names it has to remember, above all uncommon ones. System
            messages are ignored.
        """,
        usage="""
from transformers import pipeline

chat = pipeline("text-generation", model="models/conversational")
chat([{"role": "user", "content": "What is the capital of France?"}])
""",
        measured="""
            Held-out wordings are ways of asking that are in no training conversation (the things asked
            about are); the answer must match word for word. An earlier set of hand-written questions was
            looked at and went into the training wordings; the ones measured here, as a stranger might type
            them, were written after that. They ask for one telling word in the answer.
        """,
    ),
)
