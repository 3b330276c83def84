//! Where strings may end, found for a whole record in one go: to search string by string takes longer.

const BLOCK_BYTES: usize = 64;

/// A bit for each byte of a record, the first the lowest: is it a quote, a backslash, or a control character?
#[derive(Default)]
pub struct Marks(Vec<u8>);

impl Marks {
    /// Takes the place of what was marked before.
    pub fn read(&mut self, record: &[u8]) {
        self.0.clear();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return unsafe { self.mark_avx2(record) };
        }
        self.mark(record, bits);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn mark_avx2(&mut self, record: &[u8]) {
        self.mark(record, |block| bits_avx2(block));
    }

    #[inline(always)] // into `mark_avx2`, to be compiled for AVX2 there
    fn mark(&mut self, record: &[u8], bits_of: impl Fn(&[u8; BLOCK_BYTES]) -> u64) {
        let (blocks, rest) = record.as_chunks();
        let mut last = [0; BLOCK_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        // The last block by the plain way, so that tests run through both.
        let words = blocks.iter().map(bits_of).chain([bits(&last), u64::MAX]);
        self.0.extend(words.flat_map(u64::to_le_bytes));
    }

    /// The first marked place that is not before this one. What is behind the record is marked.
    #[inline]
    pub fn next(&self, mut at: usize) -> Option<usize> {
        loop {
            let word = u64::from_le_bytes(*self.0.get(at / 8..)?.first_chunk()?) >> (at % 8);
            if word != 0 {
                return Some(at + word.trailing_zeros() as usize);
            }
            at = (at / 8 + 8) * 8;
        }
    }
}

fn bits(block: &[u8; BLOCK_BYTES]) -> u64 {
    let marked = block.map(|byte| u8::from(byte < b' ' || byte == b'"' || byte == b'\\'));
    let (words, _) = marked.as_chunks();
    // The product brings the lowest bits of eight bytes together in its highest byte.
    let bytes = words.iter().map(|word| u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56);
    bytes.rev().fold(0, |bits, byte| bits << 8 | byte)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn bits_avx2(block: &[u8; BLOCK_BYTES]) -> u64 {
    use std::arch::x86_64::*;

    let mut marked = 0;
    for (i, half) in block.as_chunks::<32>().0.iter().enumerate() {
        // SAFETY: it has 32 bytes.
        let bytes = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
        let is_quote = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'"' as i8));
        let is_backslash = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\\' as i8));
        let is_control = _mm256_cmpeq_epi8(bytes, _mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)));
        let bits = _mm256_movemask_epi8(_mm256_or_si256(is_control, _mm256_or_si256(is_quote, is_backslash)));
        marked |= u64::from(bits as u32) << (32 * i);
    }
    marked
}
