// The word that was probably meant.
//
// In:  a word that is not known, and those that are.
// Out: the nearest of them by spelling, or none where nothing is near.
//
// Near is a third of the word's letters, at least one: "promt" is near "prompt", "fool" is not near
// "full". Words of one or two letters are near nothing. The distance counts letters to insert, to
// delete, to replace, and neighbours to swap (Damerau and Levenshtein, each letter in one change at
// most). The beginning of a longer word is near as well: "temp" is near "temperature".

/// The known word that is nearest to `word`; nil where none is near.
///
/// The first of equals is taken, and case does not count.
package func nearestWord(to word: String, among known: [String]) -> String? {
  let letters = Array(word.lowercased())
  if letters.count < 3 { return nil }
  var best: (word: String, distance: Int)?
  for candidate in known {
    let distance = editDistance(letters, Array(candidate.lowercased()))
    if distance <= max(1, letters.count / 3), distance < best?.distance ?? .max {
      best = (candidate, distance)
    }
  }
  return best?.word ?? known.first { $0.lowercased().hasPrefix(word.lowercased()) }
}

/// How many letters must change to make `a` of `b`; a swap of neighbours is one change.
package func editDistance(_ a: [Character], _ b: [Character]) -> Int {
  // Row i holds the distances of a's first i letters from every beginning of b.
  var rows = [Array(0...b.count)]
  for i in 1..<a.count + 1 {
    var row = [i]
    for j in 1..<b.count + 1 {
      let isSame = a[i - 1] == b[j - 1]
      var least = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (isSame ? 0 : 1))
      if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
        least = min(least, rows[i - 2][j - 2] + 1)
      }
      row.append(least)
    }
    rows.append(row)
  }
  return rows[a.count][b.count]
}
