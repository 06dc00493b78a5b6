"""From a trained model to where it is used: exported files, a service, DICOM in and out. Importing loads nothing."""
