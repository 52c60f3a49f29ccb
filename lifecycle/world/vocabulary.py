"""Who and what there is. All things take "a", all places "in the", all goods come in numbers."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GIRLS = _words(
    """Ada Alma Amy Anna Bella Betty Carla Carol Cindy Clara Cora Daisy Dana Daria Dina Donna Dora Edith Elena Ella
    Elsa Emily Emma Erika Eva Fiona Flora Gina Grace Greta Hanna Hazel Heidi Helen Ida Ines Iris Irma Ivy Jana Jane
    Jenny Jill Joan Judy Julia June Kara Karen Kate Laura Lea Lena Lily Linda Lisa Lucy Luna Mara Maria Marta Mary
    Maya Meg Mia Mila Mina Molly Mona Nadia Nancy Nina Nora Olga Olive Paula Pia Polly Rita Rosa Ruby Ruth Sally
    Sara Silvia Sofia Stella Susan Tanja Tess Tina Uma Vera Wanda Wendy Yara Zara Zoe"""
)
BOYS = _words(
    """Adam Alan Alex Andy Anton Arno Axel Ben Bert Bill Bob Boris Bruno Carl Chris Dan David Dean Denis Dirk Eddie
    Emil Eric Ernest Felix Finn Frank Fred Gary George Greg Gus Hank Hans Harry Henry Hugo Ian Igor Ivan Jack
    Jacob James Jan Jim Joe John Jonas Karl Ken Kevin Kurt Lars Leo Lewis Liam Louis Luca Luke Marco Mark Martin
    Max Mike Milo Nick Nils Noah Oliver Oscar Otto Owen Pablo Paul Pete Peter Phil Ralph Ray Rex Rob Robin Roy
    Sam Samuel Scott Sean Simon Stan Steve Ted Theo Tim Toby Tom Tony Victor Walter Will"""
)
PEOPLE = GIRLS + BOYS
PRONOUN = {**dict.fromkeys(GIRLS, "she"), **dict.fromkeys(BOYS, "he")}

THINGS = _words(
    """bag ball balloon banner basin bat bead bell belt bib blanket boat book boot bottle bow bowl box bracelet brick
    broom brush bucket button cane cap card chain chest clip clock coat coin comb cork cradle crown cup cushion dice
    dish doll drum fan feather flag flask flute fork frame glove guitar hammer harp hat hook hoop horn jar jug
    kettle key kite knife ladder lamp lantern letter lid lock locket magnet map mask medal mirror mug nail needle net
    paddle pan parcel pen pencil picture pillow pin pipe plate poster pot puppet purse puzzle rake ribbon ring robot
    rope rug ruler sack saddle scarf shawl shield shovel sled sock spade sponge spoon stool string sword tablet tent
    ticket torch towel toy tray trumpet tube vase violin wagon wand watch whip whistle wreath zipper"""
)
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "pink", "brown", "grey", "purple", "golden", "silver")
PLACES = _words(
    """attic bakery barn basement bathroom bedroom cabin cafe castle cave cellar chapel church classroom clinic
    corridor courtyard desert factory field forest garage garden gym hall harbour hospital hotel hut jungle kitchen
    laundry library lobby market meadow mill museum nursery office orchard palace pantry park playground prison
    restaurant school shed shop stable station studio swamp temple theatre tower town tunnel valley village
    workshop yard zoo"""
)
FEELINGS = _words(
    """afraid angry bored brave calm cheerful cold curious excited glad gloomy grumpy happy hot hungry jealous lazy
    lonely nervous proud sad scared shy sleepy thirsty tired upset worried"""
)
GOODS = (
    "apples", "beans", "berries", "buns", "candles", "carrots", "cherries", "cookies", "eggs", "figs", "flowers",
    "leaves", "marbles", "nuts", "pears", "pebbles", "plums", "seeds", "shells", "stamps", "stones", "tomatoes",
)  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
"""The word of a number is at its place."""

# animal: (sound, food, home)
ANIMALS = {
    "bear": ("growl", "honey", "den"),
    "bee": ("buzz", "nectar", "hive"),
    "bird": ("tweet", "worms", "nest"),
    "cat": ("meow", "fish", "basket"),
    "cow": ("moo", "grass", "pasture"),
    "dog": ("woof", "bones", "kennel"),
    "duck": ("quack", "bread", "pond"),
    "frog": ("croak", "flies", "marsh"),
    "hen": ("cluck", "corn", "coop"),
    "horse": ("neigh", "hay", "paddock"),
    "lion": ("roar", "meat", "savanna"),
    "mouse": ("squeak", "cheese", "hole"),
    "pig": ("oink", "roots", "sty"),
    "sheep": ("baa", "clover", "pen"),
    "snake": ("hiss", "mice", "pit"),
    "wolf": ("howl", "rabbits", "lair"),
}

WEATHER = ("sunny", "rainy", "windy", "snowy", "cloudy", "foggy", "stormy", "dry", "warm", "icy")

# country: (capital, language)
COUNTRIES = {
    "Brazil": ("Brasilia", "Portuguese"),
    "China": ("Beijing", "Chinese"),
    "Denmark": ("Copenhagen", "Danish"),
    "Egypt": ("Cairo", "Arabic"),
    "France": ("Paris", "French"),
    "Germany": ("Berlin", "German"),
    "Greece": ("Athens", "Greek"),
    "Hungary": ("Budapest", "Hungarian"),
    "Italy": ("Rome", "Italian"),
    "Japan": ("Tokyo", "Japanese"),
    "Norway": ("Oslo", "Norwegian"),
    "Poland": ("Warsaw", "Polish"),
    "Russia": ("Moscow", "Russian"),
    "Spain": ("Madrid", "Spanish"),
    "Sweden": ("Stockholm", "Swedish"),
    "Turkey": ("Ankara", "Turkish"),
}
