"""The vocabulary of the generated people: thirty words or syllables a list, no two lists alike.

Start and end syllables join into names that nobody has; the other lists are halves of pairs.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    "Aldo Amara Anouk Arno Asta Basil Benta Bram Calla Cosmo Dagny Dario Dilys Edda Elio Esme "
    "Faro Fenna Flavia Gero Greta Hanno Hedda Ilse Imre Ines Isko Jarek Jora Juno Kaya Kilian "
    "Lale Lasse Leona Lorin Magda Malo Mirko Nadia Nils Noor Odelia Orla Orsino Petra Quentin "
    "Rasmus Rhea Rufus Saskia Silas Sunniva Tamsin Tilda Tove Ulla Viggo Wanda Yara Zeno Zora"
)
SURNAME_STARTS = _words(
    "Bral Cald Drav Eld Fenk Gorl Harv Jost Kelv Lind Marv Nord Osk Pell Quar Rusk Sorv Tarn "
    "Ulv Vost Wend Yarl Zand Brom Cren Dusk Frost Grim Holl Jarn"
)
SURNAME_ENDS = _words(
    "abeck acroft adale agrove ahurst akin alund amoor andel arook astrom atrell avane awick "
    "emont endahl engaard erson evaro ifeld imark ingard isted ivelle obrand olmey omund orvik "
    "ostad uvall"
)
TOWN_STARTS = _words(
    "Vel Mir Thal Bren Ost Cor Lun Sar Pel Gris Hal Ner Dor Fal Yss Quil Ram Tor Wyn Zel Ard "
    "Bel Cas Drin Er Fyr Glen Jor Kir Lom"
)
TOWN_ENDS = _words(
    "amora asund avia edelle emunde enport erholm esby etta evar iago ibourne ifell igarde ilo "
    "imara inova iscombe ithia ivern odena okastra olunda omere onstad orra oveld uga undra usk"
)
COMPANY_STARTS = _words(
    "Astr Bryx Cyr Delph Elv Flor Galv Hex Iv Jun Kry Lyr Mox Nyx Orb Pyr Quor Rix Syl Tyr "
    "Umbr Vex Wex Xan Ygg Zyl Alc Bov Cred Dex"
)
COMPANY_ENDS = _words(
    "acore adyne afex alon amant anor apex arix atron avox ectra edon elix emark enta erion "
    "etek exis icron idyne ilium inova ipex isonde itron ocite odyne olith onics uvant"
)
STREET_STARTS = _words(
    "Amber Badger Beacon Bramble Candle Cinder Clover Cobalt Cricket Ember Falcon Feather "
    "Ginger Hazel Heron Kettle Lantern Linden Marble Nettle Otter Pebble Pepper Quince Raven "
    "Saffron Spindle Thistle Velvet Willow"
)
STREET_ENDS = _words(
    "acre bank barrow bridge brook combe crest cross dale fen field ford garth gate glade "
    "hollow hythe knoll lea march mead mere moor ridge row shaw stile thorpe wharf yard"
)
PET_STARTS = _words(
    "Bizz Bonk Chup Dabb Fizz Flump Gibb Grumm Hobb Jinx Kipp Lolla Moff Mugg Nibb Noff Pimm "
    "Plum Poff Quibb Rumb Scoff Snork Tibb Twigg Waff Whim Wobb Yapp Zugg"
)
PET_ENDS = _words(
    "abell adoo agus alina ankin aroo asaur ello enzo erella eroo etta ibald ilda iman inka "
    "ington ippet isaurus iwick ixie obert ofred olino ombo oodle opus oroo ulette umble"
)
SCHOOL_STARTS = _words(
    "Ald Birk Chest Dun Eth Fair God Hurst Ing Kings Led Mal Nether Over Pres Quen Rad Sher "
    "Thorn Up Wal Wether Win Ash Black Crow Down East Far Green"
)
SCHOOL_ENDS = _words(
    "abourne aclere aminster ampton andover astead athwaite ecott edean egrave elstow emblow "
    "enhoe eraston erworth estoke etbury evering ingham inglow inster ishall istock itchen "
    "olney omarsh onbury orrel othery ulcombe"
)
MONTHS = _words(
    "January February March April May June July August September October November December"
)
MATERIALS = _words(
    "walnut cedar copper marble bamboo coral porcelain bone pewter willow bronze horn felt "
    "glass leather linen maple nickel birch paper pine quartz rosewood silver slate steel straw "
    "tin velvet wax"
)
CARVED = _words(
    "owls foxes herons beetles turtles badgers whales ravens hedgehogs lizards moths otters "
    "pelicans rabbits salamanders spiders swans toads walruses wolves bears camels cranes "
    "dolphins elephants falcons geese hares larks newts"
)
TRADE_GOODS = _words(
    "lighthouse harpsichord parchment seaweed barometer beehive sundial windmill telescope "
    "carousel tapestry fossil glacier lantern mosaic rose pendulum puppet saddle sailcloth "
    "saffron truffle typewriter bonnet violin volcano waterwheel compass cider chess"
)
TRADES = _words(
    "restorer inspector archivist engraver photographer surveyor appraiser broker curator "
    "designer historian importer instructor mechanic painter registrar repairer researcher "
    "sculptor technician analyst auctioneer biographer cataloguer chronicler consultant "
    "copyist examiner lecturer valuer"
)
FLAVOURS = _words(
    "smoked pickled candied charred buttered peppered caramelised spiced roasted glazed braised "
    "curried minted fermented salted poached toasted stewed honeyed crispy creamed marinated "
    "grilled whipped steamed baked blackened crumbed devilled frosted"
)
DISHES = _words(
    "plum-dumplings turnip-waffles chestnut-noodles beetroot-pancakes quince-tart leek-pudding "
    "fennel-soup apricot-fritters barley-pie carrot-strudel celery-risotto cherry-gnocchi "
    "fig-stew ginger-trout kale-omelette lentil-cake mango-trifle nettle-quiche onion-biscuits "
    "parsnip-curry pear-lasagne pumpkin-toast radish-salad rhubarb-tacos sorrel-crumble "
    "spinach-custard squash-kebabs tomato-jelly walnut-porridge yam-casserole"
)
INSTRUMENTS = _words(
    "dulcimer theremin bassoon mandolin ocarina zither accordion bagpipes banjo celesta cello "
    "clarinet concertina cornet euphonium fiddle flugelhorn glockenspiel harmonica harp "
    "kazoo lute marimba oboe piccolo recorder sitar tuba ukulele xylophone"
)
TITLE_FIRST = _words(
    "Crimson Hollow Patient Salted Drowned Wandering Borrowed Frozen Gilded Hidden Idle Jagged "
    "Laughing Midnight Narrow Obedient Painted Quiet Restless Scarlet Seventh Sleeping Stolen "
    "Tangled Unfinished Velvet Weeping Whispering Withered Yellow"
)
TITLE_SECOND = _words(
    "Meridian Orchard Cartographer Lighthouse Almanac Balcony Cathedral Chandelier Courier "
    "Dynasty Equation Ferryman Garrison Horizon Inheritance Juggler Kingdom Labyrinth Monsoon "
    "Nightingale Observatory Parliament Quarry Regatta Sanctuary Tempest Understudy Viaduct "
    "Watchmaker Zeppelin"
)
