// Short common English words: our own lists.
//
// In:  nothing.
// Out: nouns with a regular plural or none, adjectives, verbs with a regular past that take an
//      object; no word stands in two lists. SyntheticProse.swift makes sentences of them, the tasks
//      make keys, values and word lists.

/// Nouns, adjectives and verbs.
package enum WordLists {
  private static func words(_ text: String) -> [String] {
    text.split(whereSeparator: \.isWhitespace).map(String.init)
  }

  /// Things, animals, people and places.
  package static let nouns = words(
    """
    acorn anchor apple apron arrow ash autumn axe badge bag baker ball balloon banana band bank
    barn barrel basin basket bath beach bead beam bean bear beard bed bee beetle bell belt bench
    berry bird blanket board boat bone bonnet book boot border bottle bowl box boy branch brick
    bridge brook broom brother brush bucket button cabin cable cake camel camera camp canal candle
    canoe cap captain car card carpet carrot cart castle cat cave cellar chain chair chalk chart
    cherry chest chicken chimney circle city clay cliff clock cloth cloud clover coach coal coast
    coat coin collar comb cook cord corn corner cottage cotton counter cousin cow crab cradle
    crane crate cream creek crow crown crumb cup curtain cushion dairy daughter dawn desert
    desk dinner dish doctor dog doll donkey door dragon drawer dream dress drum duck eagle ear
    earth edge egg elbow elephant engine evening eye falcon fan farm farmer fence fern ferry
    fiddle field finger fire flag flame flower flute foam fog forest fork fort fountain fox frame
    friend frog fruit garden gate ghost giant girl glove goat gold grain grandmother grape
    grass guest guitar gull hall hammer hand harbor harp hat hawk hay heart hedge hen hill hinge
    honey hood hook horn horse hotel hour house hunter hut ice inn iron island ivy jacket jar
    jewel judge jug juice kettle key king kite kitten ladder lake lamb lamp lantern lawn leather
    lemon letter lid light lily lion lizard lock log lunch map maple marble market mast meadow
    medal melon mill miner mirror mist mitten monkey moon morning moth motor mountain mud mule
    museum nail napkin neck needle neighbor nest net night nut oak oar ocean olive onion orange
    orchard otter oven owl paddle page pail paint palace pan paper parcel park parrot path
    peach peacock pear pearl pebble pen pencil pepper piano picture pie pig pigeon pillow pilot
    pin pine pipe planet plank plant plate plow pocket pond pony porch pot prince pumpkin
    puppy purse puzzle queen quilt rabbit radio raft rail rain ranch raven ribbon rice ring river
    road robin rock roof room rooster root rope rose rug saddle sail sailor salt sand scarf school
    sea seal seed shed shell shepherd ship shirt shoe shop shore shovel silk silver singer sister
    sky sled smoke snail snow soap sock sofa soldier song soup spade sparrow spider spoon spring
    squirrel stable stair star station steam stone stool storm stove straw stream street string
    sugar summer sun swallow swan table tailor tea teacher temple tent thorn thread throne thunder
    ticket tiger tile toad tower town toy train tray tree trumpet trunk tulip tunnel turkey turtle
    uncle valley vase violin wagon wall walnut water wave wax wheel whistle willow wind window
    winter witch wood wool worm yard
    """)

  /// What a thing can be.
  package static let adjectives = words(
    """
    able active aged alert amber ample ancient angry awake aware bald bare basic bent bitter black
    blank bleak blind blond blue blunt bold bored brave brief bright brisk broad broken bronze
    brown bumpy busy calm careful careless cautious central cheap cheerful chilly clean clear
    clever close cloudy clumsy coarse cold common complete cool costly cosy crimson crisp crooked
    crowded cruel curious curly curved damp dark dear decent deep dense dim dirty distant double
    dry dull dusty eager early easy elder elegant empty endless equal even exact faint fair
    faithful false famous fancy fast fat fearless fierce fine firm fit flat foggy fond foolish
    formal fragile free fresh friendly frosty full funny fuzzy gentle giddy glad gloomy golden
    good grand grateful gray great greedy green grim happy hard harmless harsh hasty heavy helpful
    hidden high hollow honest hot huge humble hungry icy ideal idle jolly joyful keen kind large
    last late lazy lean likely little lively local lone lonely long loose lost loud lovely low
    loyal lucky mad major merry mighty mild minor misty modern modest moist muddy mute narrow
    native neat new nimble noble noisy normal odd old open orderly outer pale patient peaceful
    perfect plain pleasant polite poor precious pretty prompt proper proud public pure purple
    quaint quick quiet rapid rare raw ready real red remote rich ripe rough round royal rude rusty
    sad safe salty scarlet secret serious shallow sharp shiny short shy silent simple single
    sleepy slender slim slow small smart smooth soft solemn solid sore sour spare special stale
    steady steep stern stiff still strange strict strong sturdy sudden sunny sweet swift tall tame
    tender thick thin thirsty tidy tight tiny tired tough tricky true ugly unique upper urgent
    useful usual vague vain vast violet warm wary weak wealthy weary wet white whole wide wild
    wise wooden yellow young
    """)

  /// What one can do to a thing.
  package static let verbs = words(
    """
    accept add admire adopt allow answer approach arrange ask attach avoid bake balance believe
    blame bless boil borrow bother bump bury call carry carve chase check climb collect color
    comfort compare consider copy correct count cover cross crush decorate deliver describe
    deserve destroy discover divide doubt drain dust earn employ enjoy enter envy examine excuse
    expect explain explore fasten fill finish fix fold follow force gather glue grease greet guard
    guide handle hate haul heal heat help hire hunt ignore imagine inspect invent invite join kick
    kiss knock label launch learn lick lift like load love mark measure melt mend mention miss
    move name need notice obey observe offer order own pack pass paste peel pick place play please
    point polish pour praise press print promise protect prove pull punish push question raise
    reach recall remember remind remove repair repeat replace rescue return roast roll save
    scatter scold scrape search serve settle shape share sharpen shelter sign smell soak sort
    spoil squeeze stack start steer stretch surprise taste thank tie touch trace trade treat trust
    turn twist visit want warn wash waste watch weigh welcome wipe
    """)

  /// All of them.
  package static let all = nouns + adjectives + verbs
}
