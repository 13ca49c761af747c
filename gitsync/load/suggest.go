package load

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mainstay-cluster/mainstay/object"
)

func unknownField(name string, known []string) string {
	if best := closest(name, known); best != "" {
		return fmt.Sprintf("unknown field %q (did you mean %q?)", object.Shorten(name), best)
	}
	return fmt.Sprintf("unknown field %q: check its spelling and indentation", object.Shorten(name))
}

// closest returns the known word that name was probably meant to be, "" if none is near.
func closest(name string, known []string) string {
	best, least := "", 1+max(1, min(3, len(name)/3))
	for _, word := range known {
		distance := edits(strings.ToLower(name), strings.ToLower(word))
		if distance < least {
			best, least = word, distance
		}
	}
	return best
}

// edits is the number of letters to insert, delete or replace. Long names are far from everything.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			above := row[j]
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above+1, row[j-1]+1, diagonal+cost)
			diagonal = above
		}
	}
	return row[len(b)]
}

// atoi is for digits that a pattern has matched.
func atoi(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}
