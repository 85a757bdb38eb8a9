//! The fixed lists that the shop's rows are made of, and the SQL that picks from them.
//!
//! A pick is by the checksum of a salt and the row's number: the same shop every time, without a pattern to see.

/// SQL that picks one of `words` for the row `number` (an SQL expression).
pub fn pick(salt: &str, number: &str, words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', "''"))).collect();
    format!("elt(1 + {}, {})", below(salt, number, words.len() as u64), quoted.join(", "))
}

/// SQL for a number from 0 to below `limit` for the row `number`.
pub fn below(salt: &str, number: &str, limit: u64) -> String {
    format!("crc32(concat('{salt}', {number})) % {limit}")
}

pub const FIRST_NAMES: &[&str] = &[
    "Anna",
    "Ben",
    "Chloé",
    "David",
    "Elena",
    "Fatima",
    "Georg",
    "Hanna",
    "Ivan",
    "Jürgen",
    "Katarzyna",
    "Liam",
    "Maria",
    "Noah",
    "Olga",
    "Pedro",
    "Quentin",
    "Rosa",
    "Søren",
    "Tomás",
    "Ursula",
    "Viktor",
    "Wei",
    "Xenia",
    "Yusuf",
    "Zoë",
    "Łukasz",
    "Aoife",
    "Björn",
    "Carmen",
    "Dimitri",
    "Esther",
    "Francesca",
    "Giulia",
    "Hiroshi",
    "Ines",
    "Jakub",
    "Kofi",
    "Lena",
    "Mateo",
    "Nadia",
    "Oscar",
    "Priya",
    "Rahul",
    "Sofia",
    "Thomas",
    "Uma",
];

pub const LAST_NAMES: &[&str] = &[
    "Andersen",
    "Bauer",
    "Costa",
    "Dubois",
    "Eriksson",
    "Fischer",
    "García",
    "Hoffmann",
    "Ito",
    "Jansen",
    "Kowalski",
    "Larsen",
    "Müller",
    "Novák",
    "O'Brien",
    "Petrov",
    "Quinn",
    "Rossi",
    "Silva",
    "Tanaka",
    "Urban",
    "Vargas",
    "Weber",
    "Xu",
    "Yilmaz",
    "Zhang",
    "Åberg",
    "Çelik",
    "Díaz",
    "Meyer",
    "Schmidt",
    "Lefèvre",
    "Moreau",
    "Bianchi",
    "Ferrari",
    "Nielsen",
    "Virtanen",
    "Horvat",
    "Popescu",
    "Wójcik",
    "MacDonald",
    "Nguyen",
    "Okafor",
    "Patel",
    "Sato",
    "Kim",
    "Hernández",
    "Lindqvist",
    "Van den Berg",
];

pub const STREETS: &[&str] = &[
    "Main Street",
    "Hauptstraße",
    "Rue de la Paix",
    "Via Roma",
    "Calle Mayor",
    "Station Road",
    "Church Lane",
    "Lindenallee",
    "Market Square",
    "Rua Augusta",
    "Storgatan",
    "Mill Lane",
    "Kirchweg",
    "Avenue Foch",
    "High Street",
    "Parkweg",
    "Bahnhofstraße",
    "Harbour View",
    "Nowy Świat",
    "Strandvejen",
];

/// City, country and the first two digits of its postcodes, at the same index.
pub const CITIES: &[&str] = &[
    "Berlin",
    "Paris",
    "Madrid",
    "Roma",
    "Lisboa",
    "Wien",
    "Zürich",
    "København",
    "Stockholm",
    "Oslo",
    "Helsinki",
    "Warszawa",
    "Praha",
    "Budapest",
    "Dublin",
    "Bruxelles",
    "Amsterdam",
    "Kraków",
    "Lyon",
    "Hamburg",
    "München",
    "Milano",
    "Barcelona",
    "Porto",
];

pub const COUNTRIES: &[&str] = &[
    "DE", "FR", "ES", "IT", "PT", "AT", "CH", "DK", "SE", "NO", "FI", "PL", "CZ", "HU", "IE", "BE", "NL",
    "PL", "FR", "DE", "DE", "IT", "ES", "PT",
];

pub const POSTCODES: &[&str] = &[
    "10", "75", "28", "00", "11", "10", "80", "13", "11", "01", "00", "00", "11", "10", "02", "10", "10",
    "30", "69", "20", "80", "20", "08", "40",
];

pub const MAIL_HOSTS: &[&str] = &["example.com", "example.org", "example.net", "mail.example"];

pub const QUALITIES: &[&str] = &[
    "Compact",
    "Classic",
    "Foldable",
    "Handmade",
    "Large",
    "Light",
    "Modern",
    "Outdoor",
    "Recycled",
    "Small",
    "Solid",
    "Vintage",
    "Waterproof",
];

pub const MATERIALS: &[&str] = &[
    "Oak", "Steel", "Linen", "Wool", "Bamboo", "Glass", "Leather", "Cotton", "Cork", "Walnut", "Brass",
    "Felt",
];

pub const THINGS: &[&str] = &[
    "Desk", "Lamp", "Chair", "Backpack", "Blanket", "Bottle", "Shelf", "Notebook", "Mug", "Wallet",
    "Umbrella", "Clock", "Cushion", "Basket", "Mirror", "Tray", "Stool",
];

pub const CATEGORIES: &[&str] =
    &["Furniture", "Lighting", "Kitchen", "Travel", "Textiles", "Office", "Garden", "Décor"];

pub const NOTES: &[&str] = &[
    "Please ring twice",
    "Leave it with the neighbours",
    "Gift, no invoice please",
    "Bitte beim Nachbarn abgeben",
    "Call before delivery",
    "À livrer après 18 h",
    "Fragile!",
    "100% sure about the colour? Yes \\o/",
];
