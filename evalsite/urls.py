"""Every address of the site, room by room."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("evalsite.voting.urls")),
    path("", include("evalsite.results.urls")),
    path("admin/", admin.site.urls),
]
