"""A DistilBERT that tells whether a sentence is pleased or displeased."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional
from transformers import DistilBertConfig, DistilBertForSequenceClassification, pipeline

from starter_models.training import (
    PAD,
    Card,
    Checkpoint,
    LengthBatches,
    Schedule,
    Score,
    Starter,
    fit,
    invented_word,
    padded,
    phrases,
    wordpiece_tokenizer,
    words,
)

LABELS = ("NEGATIVE", "POSITIVE")
LONGEST = 64
UNKNOWN_WORD, FIRST_WORD = 1, 5  # token ids: [UNK], and the first that is not special
SCHEDULE = Schedule(steps=4500, rate=3e-3)
TRAINING_SEED, HELD_OUT_SEED = 0, 999
SENTENCES, BATCH = 140_000, 64
SMOOTHING = 0.03  # keeps the model from being all too sure

# Ordinary sentences, written by hand before the lexicon below, and never trained on.
FIRST_POSITIVE = [
    "My kids laughed from start to finish.",
    "The staff could not have been nicer to us.",
    "This phone is a joy to use every day.",
    "Honestly the best pasta I have had outside of Italy.",
    "I was skeptical at first, but it really works.",
    "Our room was spotless and the bed was so comfortable.",
    "She sang beautifully and the crowd loved her.",
    "Great value, I would happily buy it again.",
    "Not a single complaint from me.",
    "The book was so gripping that I stayed up all night.",
    "They fixed my laptop quickly and for a fair price.",
    "What a lovely little café!",
    "I'm so happy with how the kitchen turned out.",
    "The view from the balcony took my breath away.",
    "It was well worth the wait.",
    "Everyone at the front desk was friendly and helpful.",
    "The new update made the app much faster.",
    "I can't stop listening to this album.",
    "Delicious coffee and a cozy atmosphere.",
    "My grandmother adores the blanket I bought her.",
    "The lesson was clear and our teacher was very patient.",
    "We never had any trouble with this car.",
    "It isn't cheap, but the quality is outstanding.",
    "Thank you for the wonderful evening!",
    "The delivery came two days early, which was a nice surprise.",
    "I smiled the whole way through.",
    "The plot is clever and the acting is superb.",
    "Best decision we made all year.",
    "He was polite, quick and professional.",
    "The garden looks gorgeous in spring.",
    "No problems at all, it just works.",
    "I feel proud of what our team achieved.",
    "The soup was hot, rich and full of flavor.",
    "Their customer support solved my issue within minutes.",
    "You did a fantastic job!",
    "This is exactly what I was looking for.",
    "The trip was far better than we expected.",
    "A charming film with a big heart.",
    "The shoes fit perfectly and look great.",
    "I would recommend this dentist to anyone.",
]
FIRST_NEGATIVE = [
    "I walked out after twenty minutes.",
    "The waiter ignored us for half an hour.",
    "This phone dies before lunch every day.",
    "Easily the worst pizza I have ever eaten.",
    "It looked nice online, but it fell apart in a week.",
    "Our room smelled of smoke and the sheets were dirty.",
    "The singer was off key all night.",
    "I wouldn't buy this again, even at half the price.",
    "Nothing worked the way they promised.",
    "The book was so dull that I gave up.",
    "They charged me twice and refuse to answer my emails.",
    "What a horrible little place.",
    "I'm really disappointed with the result.",
    "The noise from the street kept us awake.",
    "It was not worth the money.",
    "The man at the front desk was rude and unhelpful.",
    "The new update keeps crashing on my tablet.",
    "I can't stand this song any more.",
    "Weak coffee and a dirty table.",
    "My son cried because the toy broke on the first day.",
    "The lesson was confusing and nobody answered our questions.",
    "We had nothing but trouble with this car.",
    "The location is good, but the hotel is a disaster.",
    "Thanks for ruining my birthday.",
    "The package arrived three weeks late and damaged.",
    "I nearly fell asleep in the cinema.",
    "The plot makes no sense and the acting is wooden.",
    "Biggest mistake we made all year.",
    "He was late, careless and lazy.",
    "The garden is a mess and the pool was empty.",
    "It stopped working after two days.",
    "I feel cheated by this company.",
    "The soup was cold and had no taste.",
    "Their customer support never called me back.",
    "You should be ashamed of this service.",
    "This is not what I ordered.",
    "The trip was much worse than we expected.",
    "A boring film with terrible jokes.",
    "The shoes hurt my feet and look cheap.",
    "I would not send my worst enemy to this dentist.",
]

# Written after the first 80 had been looked at, and only used for measuring.
SECOND_POSITIVE = [
    "Our guide knew everything about the old town and made us laugh a lot.",
    "I've used this vacuum for three years and it still runs like new.",
    "The cake was moist and not too sweet.",
    "Such a friendly doctor, he took time to explain everything.",
    "My daughter can't put this game down.",
    "A brilliant show, I wish it had more seasons.",
    "You will not regret staying here.",
    "The hike was tough but the view at the top was amazing.",
    "Good sound, long battery life and a fair price.",
    "I'm impressed by how quickly they answered.",
    "We loved every single dish.",
    "It makes my work so much easier.",
    "The museum was a highlight of our holiday.",
    "He plays the role wonderfully.",
    "Cleanest bathroom I've ever seen in a hostel.",
    "They remembered my name and greeted me with a smile.",
    "This jacket keeps me warm and dry.",
    "Happy with the purchase, would order again.",
    "Simple, elegant and easy to clean.",
    "I had low expectations, but this film surprised me.",
]
SECOND_NEGATIVE = [
    "Our guide was late and did not know anything.",
    "After three washes the colors faded and the zipper broke.",
    "The cake was dry and far too sweet.",
    "The doctor did not listen to me at all.",
    "My daughter got bored after five minutes.",
    "The second season is a huge letdown.",
    "You will regret staying here.",
    "The view was nice but the hike was awful.",
    "Tinny sound, short battery life and a bad manual.",
    "I'm still waiting for an answer to my complaint.",
    "We sent back every single dish.",
    "It makes my work harder than before.",
    "The museum was closed and nobody told us.",
    "He can't act to save his life.",
    "There were bugs in the bathroom.",
    "They forgot our booking and blamed us.",
    "This jacket lets the rain in and smells strange.",
    "Unhappy with the purchase, sent it back.",
    "Ugly, heavy and hard to clean.",
    "I had high hopes, but this film let me down.",
]

GOOD = words("""
    good great excellent amazing wonderful fantastic superb brilliant lovely nice awesome perfect delightful
    outstanding beautiful pleasant charming impressive enjoyable terrific fabulous remarkable marvelous
    incredible splendid stunning magnificent delicious tasty fresh friendly helpful kind polite clean
    comfortable cozy fast quick smooth reliable sturdy bright clever funny hilarious entertaining exciting
    thrilling inspiring touching heartwarming fun magical fascinating interesting memorable refreshing
    satisfying elegant gorgeous superior flawless exceptional worthwhile valuable useful easy affordable
    generous warm welcoming attentive professional efficient responsive accurate sharp crisp solid favorite
    phenomenal masterful engaging captivating gripping witty sweet uplifting rewarding spotless relaxing
    peaceful vibrant creative honest cool fine adorable amusing breathtaking caring classy cute divine
    dreamy fair faultless first-class flavorful gentle glorious graceful handy healthy ideal juicy lively
    mesmerizing neat patient pretty quiet romantic safe sensational smart soft special spacious spectacular
    strong stylish sublime thoughtful tidy unforgettable well-made wise yummy top decent rich mouthwatering
    cheerful talented hearty courteous
""")
BAD = words("""
    bad terrible awful horrible poor dreadful disappointing boring dull ugly nasty disgusting unpleasant
    annoying frustrating mediocre lousy pathetic useless worthless broken defective faulty slow dirty filthy
    rude unfriendly unhelpful lazy noisy uncomfortable cramped expensive overpriced flimsy weak stale bland
    tasteless soggy greasy burnt confusing messy stupid silly pointless tedious predictable forgettable lame
    painful worse inferior unreliable inaccurate blurry buggy laggy clumsy careless unprofessional dishonest
    misleading shoddy atrocious abysmal appalling unbearable depressing hateful cruel gross smelly sloppy
    chaotic wasteful unacceptable ridiculous shallow lifeless uninspired awkward cheesy clunky horrendous
    hideous dismal grim unusable unwatchable inedible infuriating rotten sour harsh hostile aggressive
    arrogant bitter cheap-looking clueless complicated creepy crooked damaged dangerous deplorable
    disastrous disrespectful dry dumb embarrassing fake foul freezing fragile ignorant impolite incompetent
    insulting irritating loud lukewarm mean miserable moldy monotonous muddy outdated overcooked overrated
    raw repetitive repulsive rough rusty scary scratched shameful sickening sleazy sticky tacky tiresome
    trashy unfair unhealthy unsafe undercooked vile wobbly wooden wrong absurd tired torn incomplete
""")
GLAD = words("""
    happy glad pleased thrilled delighted satisfied proud grateful cheerful impressed excited amazed
    thankful
""")
SORRY = words("""
    sad angry upset unhappy furious miserable disappointed annoyed bored frustrated disgusted shocked
    cheated ashamed let-down tired sick irritated
""")
LIKE = words("love like enjoy adore recommend appreciate admire treasure praise prefer trust cherish")
LIKED = words("loved liked enjoyed adored recommended appreciated admired treasured praised")
HATE = words("hate dislike despise regret loathe avoid resent detest")
HATED = words("hated disliked despised regretted loathed resented detested")
WELL = words("""
    beautifully perfectly wonderfully nicely brilliantly smoothly superbly pleasantly flawlessly well great
    fantastically reliably gracefully amazingly
""")
ILL = words("""
    badly poorly terribly horribly awfully slowly painfully carelessly barely miserably dreadfully
""")
TREASURE = words("""
    masterpiece gem joy delight treasure pleasure winner bargain success triumph treat blessing dream hit
    bliss classic relief highlight
""")
TROUBLE = words("""
    disaster mess nightmare joke failure scam rip-off headache shame waste disappointment horror letdown
    torture insult catastrophe flop ordeal tragedy
""")
FLAW = words("""
    problem complaint issue error bug flaw mistake delay trouble fault scratch weakness defect
""")
MERIT = words("""
    taste flavor charm quality talent style sense heart value help comfort respect energy humor
""")
TOO = words("""
    long short loud small big expensive slow dark cold hot salty sweet heavy late crowded complicated weak
    noisy far thin tight dry greasy boring difficult
""")
ENOUGH = words("big warm clear fast strong clean good loud bright long hot fresh quiet")
BREAKS = words("""
    broke crashed failed died cracked leaked froze stopped overheated tore shattered jammed collapsed
    malfunctioned
""")
KINDNESSES = phrases("""
    helped us | smiled at us | took good care of us | answered all our questions | solved my problem | fixed
    it at once | made us feel welcome | went out of their way | gave us good advice | did a great job | took
    my breath away | saved the day | cheered me up | works like new | kept every promise | never lets me
    down | gave me hope | made it easy | knows the job | put a smile on my face | is worth a visit | is
    worth the wait | was worth it | is well worth the price | is a must | is a steal | rocks | grew on me |
    runs all day | lasts for days | brings people together
""")
UNKINDNESSES = phrases("""
    ignored us | shouted at us | kept us waiting | lied to us | lost our order | refused to help | laughed
    at us | walked away | was late again | wasted our time | charged too much | did nothing | did not care |
    never answered | never came | made it worse | gave me the wrong size | sent me away | was drunk | hung
    up on me | broke down | gave up on the first day | is not worth a visit | was not worth it | is a waste
    of money | is a joke | got on my nerves | makes me angry | stinks | leaks | hurts | is off | went wrong
    | sucks | was not working | costs too much | dies every hour | runs out too soon
""")
HURTS = words("ruined spoiled destroyed wrecked damaged")
HELPS = words("saved improved brightened enriched lifted")

THINGS = words("""
    movie film book story song album show game restaurant hotel room food meal pizza burger soup coffee
    service staff waiter product phone laptop camera screen battery app website software update car bike
    trip flight holiday beach city park museum concert party class teacher lesson course doctor dentist shop
    store delivery package price quality design color sound music plot acting actor actress ending script
    director performance dress shirt shoes bag chair table bed sofa kitchen garden house apartment
    neighborhood weather day evening dinner breakfast lunch dessert cake tea wine beer bar club gym coach
    team match player job office boss meeting project report idea plan answer support manual instructions
    keyboard mouse headphones speaker toy gift present experience atmosphere view location place tour guide
    airline crew driver bus train seat ticket pool spa shower bathroom towel pillow blanket jacket coat
    watch ring lamp printer tablet charger cable router tool drill vacuum oven fridge toaster blender pan
    knife pasta salad steak chicken fish bread cheese ice-cream sandwich sushi menu chef band singer voice
    lyrics video series episode season character dialogue comedy drama novel author chapter magazine article
    lecture seminar workshop school college nurse hospital clinic haircut barber salon massage mechanic
    garage repair company customer-service manager receptionist landlord neighbor market bakery café
    bookstore campsite cruise island hike view festival play exhibition zoo
""")
PEOPLE = phrases("""
    my wife | my husband | my son | my daughter | my mother | my father | my friend | my sister | my brother
    | our family | the kids | everyone | my colleague | my boss | our group | the children | my parents |
    our guests | my grandmother | the whole class
""")
TIMES = phrases("""
    yesterday | today | last week | this morning | with my family | at home | on monday | in general |
    overall | to be honest | in my opinion | as always | again | this time | with friends | on our trip |
    after work | in the end | honestly | last night | in may | for two weeks | during the holidays | at the
    weekend | for my birthday | all year | every day | so far | at first sight | here | on friday night |
    since january | from start to finish | this summer
""")
FACTS = phrases("""
    we went there on friday | i bought it two months ago | my brother gave it to me | we were four people |
    i ordered it online | it has two doors and a window | the shop is near the station | i use it for work |
    we stayed for three nights | i read it on the train | it comes in blue and green | we had pasta and
    salad | this was my second visit | it was a birthday present | they open at nine | i took the bus | it
    is the third part of the series | we sat outside | my wife had the fish | i watched it with my kids | it
    is made in italy | i have had it for a year | we booked it in march | the room was on the second floor |
    he plays the father | it takes about an hour | i called them on tuesday | it was raining outside | we
    arrived at noon | she works at the front desk | i paid by card | there are ten chapters | it was my
    first time there | i saw it in the cinema | they sent it by mail | my daughter needed it for school | we
    drove for two hours | i got it for christmas | it is about a young boy | i switched from another brand
""")
HAPPY_ENDS = phrases("""
    worth every penny | i will come back | highly recommended | i would buy it again | it made my day |
    could not be happier | a must see | five stars | we had a great time | i laughed the whole time | it
    works like a charm | it exceeded my expectations | i can not wait to return | everyone should try it |
    it was a pleasure | we will be back | it is exactly what i needed | i could not put it down | two thumbs
    up | they went above and beyond | nothing to complain about | well done | keep up the good work | best
    purchase i ever made | it arrived early | we felt right at home | can not complain | it never
    disappoints | it was worth it | i am a fan | it blew me away | it won my heart | it was on time | it
    just works | it does what it says | my kids love it | it helped me a lot | they made us feel at home | i
    got more than i paid for | the time flew by | it brought tears of joy | they solved it at once | i am
    glad i found it | it was love at first sight | a dream come true | it lasted for years | they kept their
    promise | it could not be better | i miss it already | it is still going strong | my new favorite | it
    got better and better | good job | it is a keeper | we danced all night | they answered at once | i
    slept like a baby | it was as good as new | everything went smoothly | i enjoyed every minute | full of
    flavor | full of great ideas | fun for the whole family | easy to use | a breath of fresh air | i was
    pleasantly surprised | it looks even better in person | it fits like a glove | no regrets | money well
    spent | thank you so much | i am in love with it | it beats all the others | what more could you want
""")
SAD_ENDS = phrases("""
    what a waste of time | i want my money back | never again | do not buy this | stay away | it stopped
    working | it broke after two days | i fell asleep halfway | i will not come back | not worth the money |
    it made me sick | i could not finish it | it fell apart | it ruined my day | i have seen better | save
    your money | we waited for hours | nobody helped us | my order never arrived | it was a mess | i regret
    buying it | i would not recommend it to anyone | complete waste of money | it failed to work | the worst
    purchase i ever made | it keeps crashing | i am returning it | they lost my luggage | zero stars | one
    star | i expected more | nothing special | it could be better | it let me down | i had to send it back |
    they never called back | they ignored us | they lied to me | i was overcharged | they cancelled my order
    | we left early | i turned it off | i stopped watching | it gave me a headache | it does not work | it
    will not start | nobody answered the phone | they did not care | we were not welcome | it hurts my back
    | i could not sleep | it is a rip-off | parts were missing | there was hair in my food | the wrong size
    was sent | it arrived broken | it arrived late | it was full of bugs | it was covered in dust | it was
    out of order | it went downhill fast | it got worse and worse | i am still waiting for a refund | i gave
    it away | it died on the first day | it smells like smoke | it tastes like plastic | they should be
    ashamed | do not waste your time | think twice before you buy | it was all hype | it goes nowhere | it
    makes no sense | i could not wait to leave | avoid at all costs | shame on you | i feel cheated | it was
    a big mistake | we had to leave | they refused to help | they made us wait | it never worked
""")

# What a gap stands for, whatever the label.
NEUTRAL = {
    "noun": THINGS,
    "time": TIMES,
    "fact": FACTS,
    "person": PEOPLE,
    "too": TOO,
    "enough": ENOUGH,
    "the": phrases("the | the | the | this | my | that | our | their | your | his | her"),
    "thing": phrases(
        "{the} {noun} | {the} {noun} | {the} {noun} | {the} {noun} | {the} {noun} | {the} {invented}"
    ),
    "subject": phrases(
        "{thing} | {thing} | {thing} | {thing} | it | he | she | they | this | that | everything"
    ),
    "it": phrases("it | this | that | {thing} | {thing} | {thing}"),
    "who": phrases("i | i | i | we | they | he | she | you | {person}"),
    "i": phrases("i | i | we | you | they"),
    "me": phrases("me | us | everyone | my wife | the kids | my son"),
    "is": phrases(
        "is | was | is | was | is | was | are | were | seems | looks | feels | felt | looked | turned out"
    ),
    "was": phrases("is | was"),
    "isnt": phrases("""
        is not | was not | isn't | wasn't | is never | was hardly | is not very | was not that | is anything
        but | was not at all | is not so | were not | aren't | is far from | was not really | never was |
        isn't that
    """),
    "dont": phrases("""
        did not | do not | didn't | don't | can not | can't | would not | wouldn't | never | will not |
        won't | did not really | don't really
    """),
    "iam": phrases("""
        i am | i'm | i feel | we are | she is | he was | they were | everyone was | i was | we were | they
        are | my wife is
    """),
    "imnot": phrases("""
        i am not | i'm not | i do not feel | we are not | she is not | he was not | i was not | we were not
        | nobody was | i wasn't | we weren't | they were not | i am never | i'm not very | i am not really
    """),
    "very": words("very really so extremely incredibly quite truly absolutely totally pretty"),
    "really": phrases("really | absolutely | just | simply | always | truly"),
    "atall": phrases("at all | to be honest | in any way"),
    "lead": phrases(
        "what a | such a | it was a | a truly | this is a | we had a | a | a really | one | that is a"
    ),
    "nota": phrases(
        """
            not a | this is not a | it was not a | hardly a | it isn't a | that was not a | never a | not
            the most
        """
    ),
    "whole": phrases(
        """
            a | a complete | a total | a real | such a | what a | it was a | this is a | {thing} is a |
            {thing} was a
        """
    ),
    "where": phrases(
        "ever | of my life | in town | i have ever seen | of the year | in the world | so far | i have had"
    ),
    "than": phrases(
        "i expected | we expected | before | the old one | last time | the first part | others | i thought"
    ),
    "much": phrases("much | far | a lot | even | so much"),
    "about": phrases("with | about | by | of"),
    "does": phrases(
        "works | worked | runs | sings | played | acts | performed | fits | behaved | was made | is written"
    ),
    "when": phrases(
        "after a week | on the first day | twice | again | all the time | within a month | after a year"
    ),
    "no": phrases("no | not a single | without a | without any | never a | hardly any | not one | zero"),
    "had": phrases("it had | there was | we had | {thing} has | {thing} had | i had"),
    "lots": phrases("full of | nothing but | so much | a lot of | lots of | plenty of | so many | only"),
    "visit": phrases(
        "buy it | visit | stay there | come here | order | use it | go there | watch it | eat here | book it"
    ),
    "whom": phrases("to anyone | to everyone | to my friends | to all"),
    "how": phrases("how | that | when"),
}
# What a gap stands for when the writer is displeased, and when pleased; {!gap} stands for the opposite.
OPINIONS = {
    "adj": (BAD, GOOD),
    "feeling": (SORRY, GLAD),
    "like": ([*HATE, *HATED], [*LIKE, *LIKED]),
    "likes": (HATE, LIKE),
    "well": (ILL, WELL),
    "treat": (TROUBLE, TREASURE),
    "merit": (FLAW, MERIT),
    "changed": (HURTS, HELPS),
    "conduct": (UNKINDNESSES, KINDNESSES),
    "phrase": (SAD_ENDS, HAPPY_ENDS),
    "best": (["worst"], words("best best nicest finest loveliest greatest")),
    "better": (
        words("worse worse slower uglier dirtier weaker"),
        words("better better faster nicer cleaner cheaper easier"),
    ),
    "felt": (
        phrases("cry | feel sick | want to leave | feel stupid"),
        phrases("smile | laugh | feel good | feel at home"),
    ),
    "went": (
        phrases("went wrong | broke | failed | hurt | fell apart | smelled"),
        phrases("worked | helped | went well | fits"),
    ),
    "breaks": (BREAKS, phrases("shines | works | delivers | helps | delights")),
    "spoiling": (
        words("wasting ruining spoiling breaking losing destroying"),
        words("saving making improving fixing"),
    ),
    "use": (
        phrases("hard to use | hard to read | difficult to open | a pain to clean | hard to watch"),
        phrases("easy to use | easy to read | a joy to use | nice to look at | fun to watch | hard to beat"),
    ),
}


@dataclass(frozen=True)
class Pattern:
    """Clauses of one kind, with gaps; the pleased ones are the same unless they are given."""

    weight: int
    displeased: str
    pleased: str | None = None

    def wordings(self, label: int) -> list[str]:
        """The clauses of one label."""
        return phrases(self.pleased if label and self.pleased else self.displeased)


PATTERNS = (
    Pattern(
        7,
        """
            {subject} {is} {adj} | {subject} {is} {very} {adj} | {subject} {is} {adj} and {adj} | {subject}
            {is} {adj}, {adj} and {adj} | {subject} {is} {really} {adj} | {adj} and {adj} | {adj}, {adj},
            {adj}
        """,
    ),
    Pattern(5, "{subject} {isnt} {!adj} | {subject} {isnt} {!adj} {atall} | not {!adj} | not {!adj} {atall}"),
    Pattern(
        4,
        """
            {who} {like} {it} | {who} {really} {like} {it} | {who} {like} everything about {it} | i {like}
            {how} {it} {is}
        """,
    ),
    Pattern(3, "{i} {dont} {!likes} {it}", "{i} {dont} {!likes} {it} | {i} {dont} mind {it}"),
    Pattern(
        3, "{lead} {adj} {noun} | {lead} {adj} little {noun} | {lead} {adj} {noun} | {adj} | {very} {adj}"
    ),
    Pattern(
        2,
        "{nota} {!adj} {noun} | {nota} {!treat} | not the {!best} {noun} {where} | not my favorite {noun}",
        "{nota} {!adj} {noun} | {nota} {!treat} | not the {!best} {noun} {where}",
    ),
    Pattern(2, "{whole} {treat} | {whole} {adj} {treat}"),
    Pattern(2, "{adj} {noun} | {adj} {noun} and {adj} {noun} | {adj} {noun}, {adj} {noun} and {adj} {noun}"),
    Pattern(
        2,
        """the {best} {noun} {where} | this is the {best} {noun} {where} | one of the {best} {noun} {where} |
        by far the {best} {noun} | easily the {best} {noun} | {best} {noun} {where} | simply the {best}""",
    ),
    Pattern(
        2,
        "{subject} {is} {better} than {than} | {subject} {is} {much} {better} | {much} {better} than {than}",
    ),
    Pattern(
        1,
        """
            could be better | {subject} could have been better | {subject} could not be worse | {subject}
            used to be better
        """,
        """
            could not be better | {subject} could not have been better | it gets better and better |
            {subject} has improved
        """,
    ),
    Pattern(
        3,
        """{iam} {feeling} | {iam} {very} {feeling} {about} {thing} | {iam} {feeling} {about} {thing} |
        {iam} so {feeling} that i bought {it} | {iam} {feeling} to have {it}""",
    ),
    Pattern(
        3, "{imnot} {!feeling} | {imnot} {!feeling} {about} {it} | {imnot} {!feeling} {about} {thing} {atall}"
    ),
    Pattern(
        2,
        "{thing} {does} {well} | it {does} {well} | {thing} {dont} work {!well} | everything {does} {well}",
        "{thing} {does} {well} | it {does} {well} | everything {does} {well}",
    ),
    Pattern(
        2,
        """{thing} {breaks} | {thing} {breaks} {when} | {thing} never works | {thing} does not work |
        {thing} will not start | {thing} never arrived | {thing} keeps breaking | {thing} is broken""",
        """
            {thing} {breaks} | {thing} always works | {thing} never breaks | {thing} never {!breaks} |
            {thing} never lets me down
        """,
    ),
    Pattern(
        2,
        """
            {it} made {me} {feeling} | {it} makes {me} {felt} | {it} left {me} {feeling} | they made {me}
            {felt}
        """,
    ),
    Pattern(2, "{it} {changed} my {noun} | {it} {changed} our {noun} | they {changed} everything"),
    Pattern(
        2,
        "{no} {!merit} | {had} {no} {!merit} | {no} {!merit} with {thing} | {had} no {!merit} {atall}",
        """
            {no} {!merit} | {no} {!merit}s | {had} {no} {!merit} | {no} {!merit} with {thing} | {had} no
            {!merit}s {atall}
        """,
    ),
    Pattern(
        1,
        """
            {lots} {merit}s | {thing} has {lots} {merit}s | it has {lots} {merit}s | so many {merit}s with
            {thing}
        """,
        "{lots} {merit} | {thing} has {lots} {merit} | it has {lots} {merit} | so much {merit} in {thing}",
    ),
    Pattern(
        2,
        """{thing} {was} too {too} | {thing} {was} {much} too {too} | way too {too} | not {enough} enough |
        {thing} {was} not {enough} enough | a bit too {too} for me""",
        """
            {thing} {was} just right | {thing} {was} not too {too} | {thing} {was} {enough} enough | just
            {enough} enough
        """,
    ),
    Pattern(
        1,
        """
            thanks for {spoiling} my {noun} | shame on {thing} | i am sick of {thing} | i can't stand
            {thing} | fed up with {it}
        """,
        """
            thank you for the {adj} {noun} | thanks for {spoiling} my {noun} | many thanks for {thing} | i
            can't get enough of {it}
        """,
    ),
    Pattern(
        2,
        """
            {i} will not {visit} again | {i} would never {visit} again | {i} won't {visit} | i wish {i} did
            not {visit}
        """,
        """
            {i} will {visit} again | {i} would gladly {visit} again | {i} will definitely {visit} again |
            can't wait to {visit} again
        """,
    ),
    Pattern(
        2,
        """
            {who} would not recommend {it} | {who} can not recommend {it} {whom} | don't {visit} | you
            should not {visit}
        """,
        """
            {who} would recommend {it} | {who} can only recommend {it} {whom} | {who} will recommend {it}
            {whom} | you should {visit}
        """,
    ),
    Pattern(
        2,
        """
            nothing {!went} | everything {went} | nothing was {!adj} | everything was {adj} | it all {went}
            | nobody {!conduct} | nobody was {!adj}
        """,
        "everything {went} | everything was {adj} | nothing was {!adj} | everyone was {adj} | it all {went}",
    ),
    Pattern(6, "{thing} {conduct} | they {conduct} | {thing} {conduct} | {it} {conduct}"),
    Pattern(1, "{it} {is} {use} | {use} | {thing} is {use}"),
    Pattern(12, "{phrase}"),
)
ALONE = phrases("{clause}")
JOINED = phrases("{clause}. {clause} | {clause} and {clause} | {clause}, {clause} | {clause}! {clause}")
TURNED = phrases("""
    {!clause} but {clause} | {!clause}, but {clause} | {!clause}, however {clause} | {!clause} but in the end
    {clause} | {!clause}, yet {clause} | although {!clause}, {clause} | even though {!clause}, {clause}
""")
WITH_FACT = phrases("{fact}. {} | {fact} and {} | {fact}, {} | {}. {fact} | {} and {fact}")
WITH_TIME = phrases("{time}, {} | {time} {} | {} {time} | {} {time}")
ENDS = [".", "!", "", ".", "...", "."]

Labelled = tuple[str, int]


def filled(rng: random.Random, wording: str, label: int) -> str:
    """Fills the gaps of a wording, and the gaps in what fills them."""

    def fill(gap: re.Match[str]) -> str:
        meant = 1 - label if gap[1] else label
        return filled(rng, choice_for(rng, gap[2], meant), meant)

    return re.sub(r"\{(!?)(\w+)\}", fill, wording)


def choice_for(rng: random.Random, gap: str, label: int) -> str:
    """One of the words or wordings that a gap stands for."""
    if gap == "clause":
        pattern = rng.choices(PATTERNS, [pattern.weight for pattern in PATTERNS])[0]
        return rng.choice(pattern.wordings(label))
    if gap == "invented":
        return invented_word(rng)
    return rng.choice(NEUTRAL[gap] if gap in NEUTRAL else OPINIONS[gap][label])


def sentence(rng: random.Random) -> Labelled:
    """A sentence with its label; what carries no opinion is spread over both labels alike."""
    label = rng.randrange(2)
    shape = rng.choice(rng.choices([ALONE, JOINED, TURNED], [66, 20, 14])[0])
    around = rng.choice(rng.choices([["{}"], WITH_FACT, WITH_TIME], [60, 17, 23])[0]).replace("{}", shape)
    return filled(rng, around, label) + rng.choice(ENDS), label


@cache
def training_sentences() -> list[Labelled]:
    """The sentences of the training set."""
    rng = random.Random(TRAINING_SEED)
    return [sentence(rng) for _ in range(SENTENCES)]


def held_out_sentences(count: int) -> list[Labelled]:
    """Fresh sentences that are not in the training set."""
    rng, trained = random.Random(HELD_OUT_SEED), {text for text, _ in training_sentences()}
    fresh = (sentence(rng) for _ in range(count * 3))
    return [item for item in fresh if item[0] not in trained][:count]


def train() -> Checkpoint:
    """Trains with some words blanked, so that no single unknown word decides."""
    texts, labels = zip(*training_sentences(), strict=True)
    tokenizer = wordpiece_tokenizer(texts, vocabulary=2400, max_length=LONGEST)
    rows = tokenizer(list(texts))["input_ids"]
    batches = LengthBatches([len(row) for row in rows], BATCH)
    model = DistilBertForSequenceClassification(configuration(len(tokenizer)))

    def next_loss() -> torch.Tensor:
        chosen = batches.draw()
        ids = padded([rows[index] for index in chosen])
        blank = (torch.rand(ids.shape) < 0.04) & (ids >= FIRST_WORD)
        wanted = torch.tensor([labels[index] for index in chosen])
        seen = ids.masked_fill(blank, UNKNOWN_WORD)
        logits = model(input_ids=seen, attention_mask=(ids != PAD).long()).logits
        return functional.cross_entropy(logits, wanted, label_smoothing=SMOOTHING)

    fit(model, next_loss, SCHEDULE)
    return Checkpoint(model, tokenizer)


def configuration(vocabulary: int) -> DistilBertConfig:
    """Two layers of width 64."""
    return DistilBertConfig(
        vocab_size=vocabulary,
        dim=64,
        n_layers=2,
        n_heads=4,
        hidden_dim=128,
        max_position_embeddings=LONGEST,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
        dropout=0.05,
        attention_dropout=0.05,
        seq_classif_dropout=0.1,
        pad_token_id=PAD,
    )


def labelled(negative: Sequence[str], positive: Sequence[str]) -> list[Labelled]:
    """Sentences with their labels."""
    return [*((text, 0) for text in negative), *((text, 1) for text in positive)]


def evaluate(folder: Path) -> list[Score]:
    """Accuracy on fresh generator sentences and on sentences written by hand."""
    classify = pipeline("text-classification", model=str(folder), device="cpu")

    def accuracy(sentences: Sequence[Labelled]) -> float:
        answers = classify([text for text, _ in sentences], batch_size=64, truncation=True)
        right = [
            answer["label"] == LABELS[label] for answer, (_, label) in zip(answers, sentences, strict=True)
        ]
        return float(sum(right) / len(right))

    sets = {
        "fresh generator sentences": held_out_sentences(1000),
        "hand-written sentences": labelled(SECOND_NEGATIVE, SECOND_POSITIVE),
        "hand-written sentences of the first set": labelled(FIRST_NEGATIVE, FIRST_POSITIVE),
    }
    return [Score(f"accuracy, {name}", accuracy(items), len(items)) for name, items in sets.items()]


STARTER = Starter(
    name="sentiment",
    module_id="FADC770C-25C8-4685-A176-51FF67B382C1",
    train=train,
    evaluate=evaluate,
    card=Card(
        title="Roster starter: sentiment",
        pipeline_tag="text-classification",
        tags=("sentiment-analysis",),
        purpose="""
            A DistilBERT of 230 thousand parameters that calls a short English sentence POSITIVE or
            NEGATIVE. It knows the usual words of praise and blame, denial ("not bad at all") and "but".
        """,
        not_for="""
            Decisions about people, irony, long texts, other languages or anything but pleased and
            displeased: it has no neutral answer, and its confidence means little. Texts are cut after 64
            word pieces.
        """,
        usage="""
from transformers import pipeline

classify = pipeline("text-classification", model="models/sentiment")
classify("I absolutely loved this movie", truncation=True)
""",
        measured="""
            The generator sentences are new draws from the generator that also made the training sentences.
            The hand-written sentences, half of them of each label, were never trained on. The first set was
            put down before the generator and looked at once to improve it; the other one was written after
            that and its mistakes were never looked at, so it is the figure to go by. Both helped to choose
            between three versions of the generator, so they are a little kind.
        """,
    ),
)
