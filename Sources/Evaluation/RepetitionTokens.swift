// The words before a repetition, in a model's tokens.
//
// In:  a cache method, a tokenizer where there is one.
// Out: token ids for the decoder (Transformers, Repetition.swift).
//
// A special token that a tokenizer puts before every text does not stand within a sequence, so the
// words are encoded without.

package import CacheMethods
package import Tokenizers
package import Transformers

/// What precedes the chunks that a model repeats under `method`; empty for methods that repeat
/// nothing, for `instruction=none`, and without a tokenizer.
package func repetitionWords(
  _ method: any CacheMethod, _ tokenizer: Tokenizer?
) -> RepetitionWords {
  (method as? any RepeatingMethod).map { repetitionWords($0.instruction, tokenizer) }
    ?? RepetitionWords()
}

/// The words of an instruction; empty without a tokenizer.
package func repetitionWords(
  _ instruction: RepetitionInstruction, _ tokenizer: Tokenizer?
) -> RepetitionWords {
  guard let tokenizer, let texts = instruction.texts else { return RepetitionWords() }
  return RepetitionWords(
    first: tokenizer.encode(texts.first, addingSpecialTokens: false),
    later: tokenizer.encode(texts.later, addingSpecialTokens: false),
    overlap: instruction.overlap)
}
