// Package view is the dashboard's HTML: templ components and what they need
// to be given. It decides nothing and fetches nothing.
package view

//go:generate go tool -modfile=../../../tools/go.mod templ generate -log-level error
