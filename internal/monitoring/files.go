package monitoring

// Files are what is generated, by the name of the file.
func Files() map[string]func() ([]byte, error) {
	return map[string]func() ([]byte, error){"grafana-dashboard.json": Dashboard, "prometheus-rules.yaml": RulesFile}
}
