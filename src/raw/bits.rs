//! Fields of a packed 64-bit word.

/// A run of bits in a word. A layout is written as a chain, lowest bits first, so that no two fields overlap:
/// `const A: Field = Field::first(4); const B: Field = A.then(10);`
#[derive(Clone, Copy)]
pub(crate) struct Field {
    shift: u32,
    len: u32,
}

impl Field {
    pub(crate) const fn first(len: u32) -> Self {
        Self { shift: 0, len }
    }

    /// The field of `len` bits above this one.
    pub(crate) const fn then(self, len: u32) -> Self {
        let shift = self.shift + self.len;
        assert!(len > 0 && shift + len <= u64::BITS, "the layout is over 64 bits");
        Self { shift, len }
    }

    pub(crate) const fn len(self) -> u32 {
        self.len
    }

    pub(crate) const fn max(self) -> u64 {
        u64::MAX >> (u64::BITS - self.len)
    }

    #[inline]
    pub(crate) const fn get(self, word: u64) -> u64 {
        (word >> self.shift) & self.max()
    }

    /// `value` in this field's place, all other bits 0. The value is cut to the field, so that it cannot bleed
    /// into the next one.
    #[inline]
    pub(crate) const fn put(self, value: u64) -> u64 {
        (value & self.max()) << self.shift
    }

    /// What to add to a word to add 1 to this field. The caller knows that the field is not at its maximum.
    #[inline]
    pub(crate) const fn one(self) -> u64 {
        1 << self.shift
    }
}

/// Bits of a generation, in the gate and in every word that is tagged with one.
pub(crate) const GENERATION_BITS: u32 = 20;

/// The generation `steps` after `generation`, which wraps.
pub(crate) const fn generation_after(generation: u64, steps: u64) -> u64 {
    generation.wrapping_add(steps) & Field::first(GENERATION_BITS).max()
}

/// How many steps lead from the generation `from` to `to`, if `to` is the later one.
pub(crate) const fn generations_between(from: u64, to: u64) -> u64 {
    to.wrapping_sub(from) & Field::first(GENERATION_BITS).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Field = Field::first(4);
    const B: Field = A.then(20);
    const C: Field = B.then(40);

    #[test]
    fn fields_do_not_bleed() {
        for value in [0, 1, 7, 0xffff, u64::MAX - 1, u64::MAX] {
            for (field, others) in [(A, [B, C]), (B, [A, C]), (C, [A, B])] {
                let word = field.put(value);
                assert_eq!(field.get(word), value & field.max());
                assert_eq!(others.map(|other| other.get(word)), [0, 0]);
            }
        }
        assert_eq!(A.put(u64::MAX) | B.put(u64::MAX) | C.put(u64::MAX), u64::MAX);
    }

    #[test]
    fn generations_wrap() {
        let last = Field::first(GENERATION_BITS).max();
        assert_eq!(generation_after(last, 1), 0);
        assert_eq!(generations_between(last, 1), 2);
        assert_eq!(generations_between(1, last), last - 1);
    }
}
