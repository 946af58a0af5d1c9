"""Sentences that mean the same: the data of both embedding models, and how these are scored."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch

from starter_models.training import Score, invented_word

TRAINING_SEED, HELD_OUT_SEED = 0, 4242

# (a sentence, another way to say it, something else): easy ones, written by hand before the data below.
HAND_WRITTEN = [
    ("A man is eating food.", "Someone is having a meal.", "A woman is playing the violin."),
    ("How can I reset my password?", "I forgot my login password.", "The weather is lovely today."),
    ("The cat sleeps on the sofa.", "A kitten is napping on the couch.", "He drives a truck to work."),
    ("I want my money back.", "Please give me a refund.", "Where is the train station?"),
    ("The kids are playing in the park.", "Children play outside in the park.", "She is writing a letter."),
    ("It is raining heavily.", "There is a lot of rain.", "The team won the game."),
    ("My parcel has not arrived yet.", "The package is still missing.", "Turn on the lights please."),
    ("A woman is cooking dinner.", "A lady prepares supper.", "The dog runs on the beach."),
    ("What time is it?", "Can you tell me the time?", "I would like to cancel my subscription."),
    ("Book me a flight to London.", "I need a plane ticket to London.", "My stomach hurts."),
    ("The doctor helps the sick man.", "A physician treats a patient.", "The boy throws a ball."),
    ("He bought a new car.", "The man purchased a new automobile.", "The soup is too salty."),
    ("The film was boring.", "It was a dull movie.", "The students read their books."),
    ("Please switch off the lamp.", "Turn the lights off.", "How much does this cost?"),
    ("The teacher reads a story.", "An instructor is reading a tale.", "The farmer repairs his roof."),
    ("I have a bad headache.", "My head hurts a lot.", "Play my favorite song."),
    ("The house is very big.", "It is a large house.", "She drinks a cup of tea."),
    ("Someone is playing the guitar.", "A musician plays guitar.", "A cook makes soup."),
    ("The shop is closed today.", "The store is not open today.", "A bird sits in a tree."),
    ("I can't connect to the internet.", "The wifi is not working.", "Happy birthday to you!"),
    ("The boss is very angry.", "Our manager is furious.", "They swim in the lake."),
    ("The baby is crying.", "An infant cries loudly.", "Police officers drive a fast car."),
    ("We won the match.", "Our team was victorious.", "I want to buy shoes."),
    ("She is happy about the gift.", "The present made her glad.", "The stock market crashed."),
    ("He climbs a mountain.", "A man is going up a hill.", "The girl paints a picture."),
    ("Tell me something funny.", "I would like to hear a joke.", "There is an error on my bill."),
    ("The horse runs fast.", "A pony is galloping quickly.", "The woman buys groceries."),
    ("I would like to talk to a person.", "Connect me with a human agent.", "The sun is shining."),
    ("The app keeps crashing.", "This program stops working all the time.", "Reserve a table for two."),
    ("A student is writing an essay.", "The pupil writes a text.", "The driver waits in the bus."),
    ("The movie starts at eight.", "The film begins at eight o'clock.", "My dog likes to swim."),
    ("She is cleaning the kitchen.", "A woman tidies up the kitchen.", "The stock prices fell."),
    ("The boy lost his bag.", "A young boy can not find his bag.", "The chef cooks pasta."),
    ("Shares fell sharply.", "Stock prices dropped a lot.", "The child sleeps in bed."),
    ("Wake me up at seven.", "Set an alarm for seven o'clock.", "The bridge was built last year."),
    ("How do I get to the airport?", "Show me the way to the airport.", "The cat drinks milk."),
    ("This product is too expensive.", "The price is too high.", "Children are singing a song."),
    ("The road is wet.", "There is water on the street.", "He reads the newspaper."),
    ("A small dog barks.", "A little puppy is barking.", "I study mathematics at school."),
    ("The old man walks slowly.", "An elderly man is walking at a slow pace.", "Where can I buy a computer?"),
]

SUBJECTS = [
    "man|guy|gentleman|male person",
    "woman|lady|female person",
    "child|kid|youngster",
    "children|kids|boys and girls",
    "boy|young boy|lad",
    "girl|young girl",
    "dog|puppy|hound",
    "cat|kitten|kitty",
    "bird|small bird|sparrow",
    "horse|pony|stallion",
    "doctor|physician|medic",
    "nurse|hospital worker",
    "teacher|instructor|tutor",
    "chef|cook",
    "student|pupil|learner",
    "driver|motorist",
    "musician|music player",
    "farmer|farm worker",
    "baby|infant|toddler",
    "police officer|cop|policeman",
    "boss|manager|chief",
    "team|squad|players",
    "person|human|somebody|someone",
    "soldier|military man",
    "old man|elderly man|grandfather",
    "old woman|elderly lady|grandmother",
    "worker|employee|staff member",
    "customer|client|shopper",
    "friend|buddy|pal",
    "neighbor|man next door",
]
# ways to do it ; what it is done to, each with its synonyms
ACTIONS = [
    "eats|is eating|is having|consumes ; food/a meal/something to eat|bread/a loaf of bread|an apple|a "
    "sandwich",
    "plays|is playing|performs on ; the guitar|the violin|the piano|the drums",
    "plays|is playing|has a game of ; football/soccer|tennis|chess|cards",
    "reads|is reading|looks through ; a book/a novel|a newspaper/the paper|a magazine|a story/a tale",
    "drives|is driving|steers ; a car/an automobile/a vehicle|a truck|a bus",
    "runs|is running|sprints|jogs ; in the park|along the street/along the road|on the beach/at the shore",
    "walks|is walking|strolls ; in the forest/in the woods|through the city/through the town|home",
    "sleeps|is sleeping|is asleep|naps|is napping ; on the sofa/on the couch|in bed|on the floor",
    "cooks|is cooking|prepares|makes ; dinner/supper|soup|pasta/noodles|breakfast",
    "buys|is buying|purchases|bought|shops for ; shoes|clothes|groceries/food|a present/a gift|a computer|a"
    " house/a home",
    "sells|is selling|sold|offers ; flowers|fruit|an old car|tickets",
    "writes|is writing|composes|wrote ; a letter|an email/a message/a mail|an essay/a text|a song",
    "watches|is watching|looks at ; television/tv|a movie/a film|the match/the game",
    "swims|is swimming|bathes ; in the sea/in the ocean|in the pool|in the lake",
    "builds|is building|constructs|built ; a house/a home|a wall|a bridge|a ship/a boat",
    "cleans|is cleaning|tidies up|washes ; the kitchen|the room|the floor|the windows",
    "paints|is painting|draws|is drawing ; a picture|a portrait|the fence",
    "climbs|is climbing|goes up|is going up ; a mountain/a hill|a tree|a ladder|the stairs",
    "carries|is carrying|holds|is holding ; a bag/a suitcase|a box|an umbrella",
    "opens|is opening|unlocks ; the door|the window|the gate",
    "closes|is closing|shuts ; the door|the window|the gate",
    "repairs|is repairing|fixes|mends ; a bicycle/a bike|the roof|a computer|the car/the automobile",
    "throws|is throwing|tosses ; a ball|a stone/a rock",
    "drinks|is drinking|sips ; water|coffee|tea|juice|milk",
    "sings|is singing|sang ; a song/a tune|in the choir|loudly/with a loud voice",
    "cries|is crying|weeps ; loudly/with a loud voice|in the room|all night",
    "barks|is barking|growls ; at the door|loudly|in the garden/in the yard",
    "helps|is helping|supports|assists ; a patient/a sick man|an old lady|a friend/a buddy",
    "studies|is studying|learns ; mathematics/math|history|a language|at school",
    "waits|is waiting|is standing by ; at the station|in the bus|in a line/in a queue",
    "rides|is riding|sits on ; a horse/a pony|a bicycle/a bike|a motorcycle/a motorbike",
    "lost|can not find|is missing ; the keys|a wallet/a purse|a phone|a bag",
    "dances|is dancing ; on the stage|at the party|in the rain",
    "speaks|is speaking|talks|is talking ; on the phone|to the crowd|with a friend",
]
ADVERBS = [
    "|",
    "|",
    "|",
    "quickly|fast|in a hurry",
    "slowly|at a slow pace",
    "happily|with joy|gladly",
    "in the morning|early in the day",
    "at night|late in the evening",
    "today|this day",
    "alone|without company",
]
THINGS = [
    "house|home|building",
    "car|automobile|vehicle",
    "movie|film",
    "food|meal|dish",
    "street|road",
    "shop|store",
    "city|town",
    "book|novel",
    "phone|telephone|mobile",
    "computer|laptop|pc",
    "garden|yard",
    "job|work",
    "present|gift",
    "trip|journey|travel",
    "school|college",
    "hotel|inn",
    "boat|ship",
    "song|tune|melody",
    "picture|image|photo",
    "weather",
    "soup",
    "coffee",
    "room",
    "river|stream",
    "man|guy",
    "woman|lady",
    "boss|manager",
    "child|kid",
]
QUALITIES = [
    "big|large|huge|very big",
    "small|little|tiny",
    "happy|glad|joyful|cheerful",
    "sad|unhappy|down",
    "angry|furious|mad|very angry",
    "fast|quick|rapid",
    "slow|not fast",
    "beautiful|pretty|lovely",
    "ugly|not pretty",
    "expensive|costly|not cheap|high in price",
    "cheap|inexpensive|low in price",
    "boring|dull|not interesting",
    "exciting|thrilling|interesting",
    "old|ancient|not new",
    "new|brand new|modern",
    "clean|spotless|tidy",
    "dirty|filthy|not clean",
    "cold|chilly|freezing",
    "hot|very warm|boiling",
    "wet|damp|full of water",
    "dark|without light|gloomy",
    "loud|noisy|not quiet",
    "quiet|silent|calm",
    "broken|damaged|not working",
    "closed|shut|not open",
    "open|not closed",
    "good|great|excellent|very good",
    "bad|terrible|awful|very bad",
    "difficult|hard|not easy",
    "easy|simple|not hard",
    "tired|sleepy|exhausted",
    "ill|sick|unwell",
    "rich|wealthy",
    "smart|clever|intelligent",
    "tasty|delicious|yummy",
    "empty|with nothing inside",
    "strong|powerful",
    "dangerous|not safe|risky",
]
# Six wordings to train on and two held out for each thing people ask for.
REQUESTS = [
    "how do i reset my password|i forgot my password|my password does not work|change my login password"
    "|i can not log in to my account|recover my account password"
    "|lost my login credentials|need a new password for my account",
    "where is my order|my package has not arrived|track my delivery|when will my parcel arrive"
    "|shipping status of my order|the delivery is late"
    "|has my order been shipped|my parcel is still missing",
    "i want a refund|give me my money back|how can i return this item|return a product|can i get my money "
    "back|refund for my purchase|i would like to send this back|how do i get reimbursed",
    "cancel my subscription|i want to stop my membership|end my plan|how do i unsubscribe"
    "|stop charging me every month|terminate my subscription"
    "|please cancel my membership|how to end the subscription",
    "how is the weather today|will it rain tomorrow|is it going to be sunny|what is the forecast"
    "|do i need an umbrella|how hot will it be"
    "|weather forecast for tomorrow|is it raining outside",
    "book a flight to paris|i need a plane ticket|find me a flight|reserve an airplane seat|buy an airline "
    "ticket|cheap flights please|i want to fly to paris|get me a plane ticket",
    "reserve a table for two|book a restaurant|i want to make a dinner reservation|table for tonight please"
    "|find a place to eat|dinner booking"
    "|make a reservation at a restaurant|book us a table tonight",
    "what time is it|tell me the time|do you have the time|what is the current time|how late is it|clock "
    "time now|can you tell me what time it is|current time please",
    "i feel sick|i have a headache|my stomach hurts|i am ill|i have a fever|i do not feel well"
    "|i am feeling unwell|my head hurts",
    "play some music|put on a song|start the music|i want to listen to a song|turn on some tunes"
    "|play my favorite album"
    "|can you play a song|let me hear some music",
    "turn on the lights|switch on the lamp|make the room brighter|lights on please|light up the room"
    "|turn the lamp on"
    "|please switch the lights on|it is too dark in here",
    "turn off the lights|switch off the lamp|make the room darker|lights off please|shut off the lights"
    "|turn the lamp off"
    "|please switch the lights off|put out the lights",
    "the app crashes|the program keeps closing|software error|the application stopped working"
    "|it freezes all the time|there is a bug in the app"
    "|my app is not working|the software crashed again",
    "how much does it cost|what is the price|how expensive is it|tell me the price|what do i have to pay"
    "|cost of this product"
    "|how much is this|price of the item please",
    "talk to a human|i want to speak with an agent|connect me to support|customer service please"
    "|can i call someone|let me talk to a person"
    "|i need a human agent|speak to customer support",
    "my internet is slow|the wifi does not work|no internet connection|the network is down"
    "|i can not connect to the internet|bad wifi signal"
    "|internet connection problems|the wifi is very slow",
    "tell me a joke|make me laugh|say something funny|do you know a joke|i want to hear a joke"
    "|something funny please"
    "|can you tell a joke|crack a joke",
    "translate this to french|how do you say this in spanish|translate my text|what is this word in german"
    "|i need a translation|convert this sentence to english"
    "|can you translate this sentence|translation into french please",
    "set an alarm for seven|wake me up at six|remind me to get up|alarm for tomorrow morning|wake me early"
    "|create an alarm"
    "|please set my alarm clock|wake me up tomorrow",
    "the stock market fell|shares dropped today|stocks went down|investors lost money|the market crashed"
    "|prices on the exchange declined"
    "|stock prices dropped sharply|the stock exchange went down",
    "our team won the match|we won the game|victory for the home side|they beat their rivals"
    "|the squad took the win|the final ended with a win"
    "|the home team won|we beat them in the final",
    "the bill is too high|i was charged twice|wrong amount on my invoice|billing problem"
    "|there is a mistake on my invoice|you charged me too much"
    "|my invoice is wrong|i was billed two times",
    "happy birthday|best wishes on your birthday|have a great birthday|congratulations on your birthday"
    "|many happy returns|enjoy your special day"
    "|i wish you a happy birthday|all the best for your birthday",
    "how do i get to the station|directions to the airport|show me the way to the center|which way is the "
    "museum|navigate to the station|how can i reach the airport|route to the train station|how do i get to "
    "the airport",
]
LEADS = ["", "", "please ", "hello , ", "hi , ", "can you help , "]
OPENERS = ["there is ", "i see that ", "look , ", "it seems that ", "yes , "]

Say = Callable[[random.Random], str]


@dataclass(frozen=True)
class Meaning:
    """Something to say: a key that no other meaning shares, and a way to say it that varies."""

    key: str
    say: Say


@dataclass(frozen=True)
class Request:
    """Ways to ask for one thing."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...]


def requests() -> list[Request]:
    """The things people ask for."""
    wordings = [line.split("|") for line in REQUESTS]
    return [Request(tuple(line[:-2]), tuple(line[-2:])) for line in wordings]


def action(rng: random.Random) -> Meaning:
    """Somebody does something somehow."""
    who, how = rng.choice(SUBJECTS), rng.choice(ADVERBS)
    verbs, objects = rng.choice(ACTIONS).split(" ; ")
    what = rng.choice(objects.split("|"))

    def say(rng: random.Random) -> str:
        adverb = rng.choice(how.split("|"))
        parts = (who.split("|"), verbs.split("|"), what.split("/"))
        core = " ".join([determiner(rng), *map(rng.choice, parts)])
        return decorated(rng, f"{adverb} {core}" if rng.random() < 0.2 else f"{core} {adverb}")

    return Meaning(f"{who} {verbs} {what}", say)


def quality(rng: random.Random) -> Meaning:
    """Something is somehow."""
    what, how = rng.choice(THINGS), rng.choice(QUALITIES)

    def say(rng: random.Random) -> str:
        noun, word = rng.choice(what.split("|")), rng.choice(how.split("|"))
        verb, degree = rng.choice(["is", "is", "was", "looks"]), rng.choice(["", "", "very ", "so "])
        plain = f"{determiner(rng)} {noun} {verb} {degree}{word}"
        before = f"{rng.choice(['it is a', 'this is a', 'it was a', 'what a', 'there is a'])} {word} {noun}"
        return decorated(rng, before if rng.random() < 0.35 and " " not in word else plain)

    return Meaning(f"{what} {how}", say)


def request(rng: random.Random) -> Meaning:
    """Somebody asks for something."""
    wanted = rng.choice(requests())

    def say(rng: random.Random) -> str:
        return rng.choice(LEADS) + rng.choice(wanted.trained) + rng.choice(["", "?", "."])

    return Meaning(wanted.trained[0], say)


def made_up(rng: random.Random) -> Meaning:
    """Words that nobody knows, so that sharing unknown words counts as being alike."""
    words = [invented_word(rng) for _ in range(rng.randint(2, 4))]

    def say(rng: random.Random) -> str:
        kept = list(words)
        if len(kept) > 2 and rng.random() < 0.4:
            kept.remove(rng.choice(kept))
        subject = rng.choice(rng.choice(SUBJECTS).split("|")) if rng.random() < 0.2 else determiner(rng)
        return decorated(rng, f"{subject} {' '.join(kept)}")

    return Meaning(" ".join(words), say)


def determiner(rng: random.Random) -> str:
    """A word before a noun."""
    return rng.choice(["a", "the", "the", "one", "my", "our", "this"])


def decorated(rng: random.Random, text: str) -> str:
    """Adds what does not change a meaning."""
    opener = rng.choice(OPENERS) if rng.random() < 0.12 else ""
    return f"{opener}{text.strip()}{rng.choice(['', '.', '.'])}"


def meaning(rng: random.Random) -> Meaning:
    """Something to say, of any kind."""
    kind = rng.choices([action, quality, request, made_up], [45, 22, 23, 10])[0]
    return kind(rng)


def pairs(rng: random.Random, count: int) -> tuple[list[str], list[str]]:
    """Sentences and other ways to say them; no two pairs of one batch mean the same."""
    meanings: dict[str, Meaning] = {}
    while len(meanings) < count:
        found = meaning(rng)
        meanings.setdefault(found.key, found)
    said = [(item.say(rng), item.say(rng)) for item in meanings.values()]
    return [one for one, _ in said], [other for _, other in said]


def corpus() -> list[str]:
    """Text to train a tokenizer on, with every word of the lists in it."""
    rng = random.Random(TRAINING_SEED)
    kinds = [action] * 10_000 + [quality] * 4000 + [request] * 2000
    return [kind(rng).say(rng) for kind in kinds]


Encode = Callable[[list[str]], torch.Tensor]


def scores(encode: Encode) -> list[Score]:
    """Measures sentence vectors of length one on fresh pairs, held-out requests and hand-written triplets."""
    ones, others = held_out_pairs(200)
    alike = encode(ones) @ encode(others).T
    found = (alike.argmax(1) == torch.arange(len(ones))).float().mean().item()
    said, same, else_said = (encode(list(column)) for column in zip(*HAND_WRITTEN, strict=True))
    close, far = (said * same).sum(1), (said * else_said).sum(1)
    return [
        Score("own paraphrase found among 200 fresh generator pairs", found, len(ones)),
        Score("request of a held-out wording recognized", requests_recognized(encode), len(REQUESTS) * 2),
        Score("hand-written triplets in the right order", (close > far).float().mean().item(), len(said)),
        Score("mean cosine, hand-written paraphrases", close.mean().item(), len(said)),
        Score("mean cosine, hand-written unrelated pairs", far.mean().item(), len(said)),
    ]


def held_out_pairs(count: int) -> tuple[list[str], list[str]]:
    """Fresh pairs whose two sentences differ."""
    ones, others = pairs(random.Random(HELD_OUT_SEED), count * 2)
    different = [(one, other) for one, other in zip(ones, others, strict=True) if one != other][:count]
    return [one for one, _ in different], [other for _, other in different]


def requests_recognized(encode: Encode) -> float:
    """The share of held-out wordings whose nearest trained wording asks for the same thing."""
    known = [(text, index) for index, item in enumerate(requests()) for text in item.trained]
    asked = [(text, index) for index, item in enumerate(requests()) for text in item.held_out]
    nearest = (encode([text for text, _ in asked]) @ encode([text for text, _ in known]).T).argmax(1)
    right = [known[int(place)][1] == index for place, (_, index) in zip(nearest, asked, strict=True)]
    return sum(right) / len(right)
