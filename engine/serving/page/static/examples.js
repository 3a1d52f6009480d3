// Texts of this project's own. The third has no answer; the fourth has characters of two UTF-16 units.

export const EXAMPLES = [
  {
    title: "A canal",
    question: "How many locks does the canal have?",
    passage:
      "The Tarnbeck Canal is a narrow inland waterway that once linked the slate quarries of Upper Ellmoor with the " +
      "tidal harbour at Saltby. It is 41 miles long, passes through 57 locks and crosses the River Wend on an iron " +
      "aqueduct of nine arches. Promoted by quarry owners who were tired of paying carters for every load, the canal " +
      "was authorised by Parliament in 1788 and opened throughout in 1801, four years later than planned.",
  },
  {
    title: "Honey bees",
    question: "When did von Frisch share a Nobel Prize?",
    passage:
      "A honey bee that has found a rich patch of flowers can tell her nest mates where it lies by dancing on the " +
      "comb. In the waggle dance she runs straight ahead while shaking her abdomen, circles back, and repeats the " +
      "run. The angle between the run and the vertical stands for the angle between the food and the sun, and the " +
      "longer the run lasts, the farther away the food is. When the food is very near the hive, the bee performs a " +
      "simpler round dance instead. The Austrian zoologist Karl von Frisch worked out the meaning of these movements " +
      "over several decades and shared a Nobel Prize for it in 1973.",
  },
  {
    title: "No answer",
    question: "Which country buys the most saffron?",
    passage:
      "Saffron is the dried stigma of Crocus sativus, and because each flower yields only three stigmas, some " +
      "150,000 flowers must be picked by hand for one kilogram. Iran grows most of the world's crop, while the " +
      "Spanish region of La Mancha is known for its quality.",
  },
  {
    title: "Emoji 🌋",
    question: "When did the volcano erupt?",
    passage:
      "🌋 Field notes, day 3. 🧗‍♀️🧗 We reached the rim at noon. 𝒢𝓇𝑒𝒶𝓉 views! The guide said the volcano last " +
      "erupted in 1912 🔥, and that the village below was moved two years later 🏘️. We camped by the lake 🏕️.",
  },
];
