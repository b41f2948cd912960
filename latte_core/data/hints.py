"""Which known word to name when a prompt has another one, for words that are no pictures' names.

`names` leads from things to the world's subjects. Here stand the places, colours, motions and sizes
that people type, and the words near which there is nothing: small words, people, and adverbs. A
table of pictures would lead those astray ("slow" is a keyword of the sloth, hence of a rabbit).
"""

from __future__ import annotations

from latte_core.data.captions import vocabulary
from latte_core.data.names import nearest_subjects
from latte_core.data.world import World

# Language -> known word -> words to which it comes nearest.
NEAR: dict[str, dict[str, str]] = {
    "en": {
        "meadow": "forest woods jungle park garden lawn grassland farm hill hills valley nature",
        "desert": "beach shore coast island mountain mountains canyon savanna ground rocks",
        "night": "space galaxy universe cosmos planet dark darkness midnight moon moonlight",
        "sunset": "sunrise dawn dusk twilight evening morning sun sunshine",
        "sky": "air cloud day daytime daylight wind",
        "background": "backdrop wall room house home studio floor table kitchen",
        "blue": "sea ocean water river lake pond underwater waves navy",
        "teal": "turquoise cyan aqua",
        "purple": "violet lilac lavender indigo",
        "pink": "magenta fuchsia rosy",
        "red": "crimson scarlet maroon",
        "orange": "brown bronze amber",
        "yellow": "gold golden beige",
        "green": "lime olive emerald",
        "white": "gray grey silver snow snowy ice winter",
        "small": "little tiny mini",
        "big": "large huge giant gigantic enormous massive great tall",
        "bigger": "larger",
        "moves": "move moving run runs running walk walks walking go going drive drives driving "
        "swim swims swimming ride rides riding crawl crawls slides sails races",
        "jumps": "jump jumping leap leaps leaping hop hopping bounce bouncing dance dances dancing",
        "spins": "spin spinning rotate rotating roll rolls rolling twirls whirls swirls swings",
        "flies": "fly flying hovers glides gliding",
        "rises": "rise rising float floats floating soar soars climbs ascends launches",
        "falls": "fall falling drop dropping sinks dives descends lands",
        "grows": "grow growing expands swells inflates approaches",
        "shrinks": "shrink shrinking contracts vanishes disappears deflates",
    },
    "ru": {
        "лугу": "луг поле поляна поляне лес лесу парк парке сад саду джунгли джунглях холм холме "
        "ферма ферме природа природе",
        "пустыне": "пляж пляже берег берегу остров острове гора горы горе горах песок песке скалах",
        "ночью": "ночь космос космосе вселенной галактике планета темноте луна луне луной",
        "закате": "закат рассвет рассвете заря заре вечер вечером утро утром солнце солнцем",
        "небе": "небо облако облака облаках воздух воздухе ветер день днем",
        "фоне": "фон стена стене комната комнате дом доме студия студии стол столе",
        "синем": "море морем океан океане вода воде водой река реке озеро озере синий синяя синее",
        "голубом": "голубой голубая голубое",
        "бирюзовом": "бирюзовый бирюзовая бирюзовое",
        "фиолетовом": "фиолетовый фиолетовая фиолетовое лиловый сиреневый",
        "розовом": "розовый розовая розовое",
        "красном": "красный красная красное алый бордовый",
        "оранжевом": "оранжевый оранжевая оранжевое рыжий рыжая коричневый коричневая",
        "желтом": "желтый желтая желтое золотой золотая бежевый",
        "зеленом": "зеленый зеленая зеленое",
        "белом": "белый белая белое серый серая серое снег снегу снежный серебряный зима зимой",
        "черном": "черный черная черное",
        "маленький": "крошечный крохотный мелкий малый",
        "маленькая": "крошечная крохотная мелкая",
        "большой": "огромный гигантский крупный высокий",
        "большая": "огромная гигантская крупная высокая",
        "движется": "бежит бегает бегут ходит гуляет плывет плавает ездит мчится ползет скользит",
        "прыгает": "танцует пляшет прыгать скакать",
        "кружится": "крутится катится качается",
        "летит": "летает летать парит лететь",
        "падает": "тонет ныряет спускается падать",
        "растет": "раздувается расти",
        "уменьшается": "исчезает сжимается",
    },
}

# The same for things that the table of pictures leads astray ("lion" to the rabbit).
THINGS: dict[str, dict[str, str]] = {
    "en": {
        "duck": "bird birds chicken goose swan parrot",
        "cat": "lion tiger fox",
        "elephant": "bear horse cow",
        "balloon": "ball",
    },
    "ru": {
        "утка": "птица птичка курица гусь лебедь попугай",
        "кот": "лев тигр лиса",
        "слон": "медведь лошадь корова",
        "шарик": "мяч мячик",
    },
}

# Near these words there is nothing in any world.
NOTHING: dict[str, str] = {
    "en": (
        "i you he she it we they me him her his its them their my your our this these those there "
        "here where when what who which how why is are was were be being been am do does doing has "
        "have had can will would should must may might not no yes or but if so as than then too "
        "very really quite just only also with without from into onto out off over above below "
        "behind before after beside between by for near next across along through during while "
        "about against until toward towards two three four five six seven eight nine ten many "
        "some any all every each both few more most much several other another same new old young "
        "nice cute pretty beautiful lovely happy sad funny angry silly good bad best fast slow "
        "quick quickly slowly gently suddenly long short high low hot cold warm soft hard light "
        "bright shiny colorful colourful realistic cinematic photo picture image animation cartoon "
        "style quality detailed man woman men women boy girl child children kid kids baby person "
        "people someone guy lady human family friend sit sits sitting sleep sleeps sleeping stand "
        "stands standing eat eats eating look looks looking play plays playing sing sings singing "
        "smile smiles smiling shakes city street town village road office school rain summer spring"
    ),
    "ru": (
        "и а но или не ни да нет с со из от до для без над около рядом возле за перед после через "
        "между при про к ко о об у это этот эта эти тот та те там тут здесь когда что кто как "
        "какой такой чтобы если то же он она оно они я ты мы вы его ее их мой твой свой очень "
        "быстро медленно красиво весело тихо громко один одна два две три четыре пять много "
        "несколько все весь вся каждый новый новая старый старая молодой красивый красивая милый "
        "милая веселый веселая грустный грустная хороший хорошая яркий яркая человек люди мужчина "
        "женщина мальчик девочка ребенок дети парень девушка сидит спит лежит стоит ест смотрит "
        "играет поет улыбается город городе улица улице дорога дороге школа школе лето летом дождь "
        "погода картинка фото"
    ),
}


def nearest_words(world: World) -> dict[str, str]:
    """For words that this world does not know, the known word nearest to each, "" if none is.

    {"lion": "cat", "forest": "meadow", "very": ""}, in the languages that the world speaks.
    """
    known = set(vocabulary(world))
    found = nearest_subjects(world)
    for language in world.languages:
        for near, words in THINGS.get(language, {}).items():
            if near in known:
                found |= dict.fromkeys(words.split(), near)
        for near, words in NEAR.get(language, {}).items():
            found |= dict.fromkeys(words.split(), near if near in known else "")
        found |= dict.fromkeys(NOTHING.get(language, "").split(), "")
    return {word: near for word, near in sorted(found.items()) if word not in known}
