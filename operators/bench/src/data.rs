//! Data that is the same on every machine.

/// splitmix64.
pub(crate) struct Random(u64);

impl Random {
    /// The same sequence for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A number of 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `end`, the small ones more often: Zipf's law, by inversion of its integral.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
    pub(crate) fn zipf(&mut self, end: usize) -> usize {
        ((end as f64).powf(self.unit()) - 1.0) as usize
    }

    /// A number of the standard normal distribution (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Vectors of unit length around centres that are themselves around fewer centres: `[count][dim]`, like embeddings of
/// texts on some hundred subjects.
pub(crate) fn clustered(count: usize, dim: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Random::new(seed);
    let mut around = |centre: &[f32], spread: f64| -> Vec<f32> {
        let noise = spread / (dim as f64).sqrt();
        let moved = centre.iter().map(|value| value + (random.normal() * noise) as f32).collect::<Vec<f32>>();
        let norm = moved.iter().map(|value| value * value).sum::<f32>().sqrt();
        moved.into_iter().map(|value| value / norm).collect()
    };
    let zero = vec![0.0; dim];
    let subjects: Vec<Vec<f32>> = (0..40).map(|_| around(&zero, 1.0)).collect();
    let topics: Vec<Vec<f32>> = (0..1000).map(|topic| around(&subjects[topic % 40], 1.0)).collect();
    let mut choice = Random::new(seed ^ 0xC1);
    (0..count).map(|_| around(&topics[choice.below(topics.len())], 0.9)).collect()
}

/// The number of a word: FNV-1a, then mixed.
pub(crate) fn term(word: &str) -> u64 {
    let hash = word
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    Random::new(hash).bits()
}
