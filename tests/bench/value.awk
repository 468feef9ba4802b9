# SPDX-License-Identifier: Apache-2.0
# A member of one line of the results, for the other programs here. The lines are this project's
# own, one flat object each, so no general JSON parser is needed.

function value(line, key,    at, rest) {
    at = index(line, "\"" key "\":")
    if (!at) return ""
    rest = substr(line, at + length(key) + 3)
    if (substr(rest, 1, 1) == "{") {
        sub(/}.*/, "}", rest)
        return rest
    }
    if (substr(rest, 1, 1) == "\"") {
        rest = substr(rest, 2)
        sub(/".*/, "", rest)
        return rest
    }
    sub(/[,}].*/, "", rest)
    return rest
}
