"""Apache Beam's names at Apache Beam's places, for programs that import them from there. No code lives here."""
